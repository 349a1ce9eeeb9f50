"""Load of the machine during training, under MLflow's names of system metrics."""

import contextlib
import threading
import time
from collections.abc import Iterator

import psutil

MEBIBYTE = 2**20

Sample = dict[str, float]


@contextlib.contextmanager
def watching(interval: float = 5.0) -> Iterator[list[Sample]]:
    """Yield a list to which a sample is added every `interval` seconds, and at the end of the block.

    A sample has the `time` in seconds since 1970, the machine's use of processor and memory, and the memory of this process.
    """
    samples: list[Sample] = []
    ended = threading.Event()
    psutil.cpu_percent()  # the first call only starts the measurement

    def watch() -> None:
        while not ended.wait(interval):
            samples.append(_sample())

    watcher = threading.Thread(target=watch, name="system metrics", daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        watcher.join()
        samples.append(_sample())


def _sample() -> Sample:
    memory = psutil.virtual_memory()
    return {
        "time": round(time.time(), 3),
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": round(memory.used / MEBIBYTE, 1),
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_usage_megabytes": round(psutil.Process().memory_info().rss / MEBIBYTE, 1),
    }
