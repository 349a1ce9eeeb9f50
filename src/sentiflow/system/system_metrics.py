"""How busy the machine is while a model trains, under the names that MLflow gives such metrics."""

import contextlib
import threading
import time
from collections.abc import Iterator

import psutil

INTERVAL = 5.0  # seconds between two looks
MEBIBYTE = 2**20

Sample = dict[str, float]


@contextlib.contextmanager
def watching(interval: float = INTERVAL) -> Iterator[list[Sample]]:
    """Fills the list it gives with one sample every `interval` seconds, and one at the end of the block.

    A sample holds `time` in seconds since 1970, the processor's and memory's use by the machine, and the memory of this
    process; what psutil cannot tell on a system is left out.
    """
    samples: list[Sample] = []
    ended = threading.Event()
    psutil.cpu_percent()  # the first call only begins to count

    def look() -> None:
        while not ended.wait(interval):
            samples.append(_sample())

    watcher = threading.Thread(target=look, name="system metrics", daemon=True)
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
