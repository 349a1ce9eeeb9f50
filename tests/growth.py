"""How the work of a function grows with its input."""

import gc
import time

FLOOR = 0.002  # seconds of processor time, below which a difference says nothing


def growth(work, small, large):
    """Processor time with the large input over that with the small one; the least of three runs each."""
    return max(_seconds(work, large), FLOOR) / max(_seconds(work, small), FLOOR)


def _seconds(work, given):
    found = []
    gc.disable()  # its time goes by all that this process has in memory
    try:
        for _ in range(3):
            begun = time.process_time()
            work(given)
            found.append(time.process_time() - begun)
    finally:
        gc.enable()
    return min(found)
