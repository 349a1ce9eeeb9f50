"""Measure how processor time grows with the size of the input."""

import gc
import time

FLOOR = 0.002  # seconds; shorter times are noise


def growth(work, small, large):
    """Ratio of the processor times with the large and the small input; the minimum of three runs each."""
    return max(_seconds(work, large), FLOOR) / max(_seconds(work, small), FLOOR)


def _seconds(work, given):
    found = []
    gc.disable()  # its time depends on everything in memory
    try:
        for _ in range(3):
            begun = time.process_time()
            work(given)
            found.append(time.process_time() - begun)
    finally:
        gc.enable()
    return min(found)
