"""Hide TensorFlow's start-up messages and keep its warnings.

TensorFlow writes these lines from C++, some before it reads any setting, so no environment variable hides all of them.
They are filtered by their text between file descriptor 2 and the terminal.
"""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator

CHATTER = re.compile(
    rb"All log messages before absl::InitializeLog"
    rb"|port\.cc:\d+\] oneDNN custom operations are on"
    rb"|util\.cc:\d+\] oneDNN supports DT_BOOL only on platforms with"
    rb"|cudart_stub\.cc:\d+\] Could not find cuda drivers"
    rb"|cpu_feature_guard\.cc:\d+\] This TensorFlow binary is optimized"
    rb"|^To enable the following instructions:"
    rb"|cuda_\w+\.cc:\d+\] failed call to cuInit"
    rb"|use_unbounded_threadpool which is not in the op definition"
    rb"|(?:computation_placer|cuda_dnn|cuda_blas|cuda_fft)\.cc:\d+\] .*(?:already registered|Unable to register)"
)


@contextlib.contextmanager
def chatter_dropped() -> Iterator[None]:
    """Drop lines written to file descriptor 2 within the block that match CHATTER.

    Python's own `sys.stderr` bypasses the filter, so that progress bars still see a terminal.
    """
    try:
        real = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    read_end, write_end = os.pipe()
    sys.stderr.flush()
    python_stderr = sys.stderr
    on_descriptor_2 = _descriptor(python_stderr) == 2
    os.dup2(write_end, 2)
    os.close(write_end)
    if on_descriptor_2:
        sys.stderr = os.fdopen(real, "w", buffering=1, encoding=python_stderr.encoding, errors="backslashreplace", closefd=False)
    forwarder = threading.Thread(target=_forward, args=(read_end, real), daemon=True)
    forwarder.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = python_stderr
        os.dup2(real, 2)  # closes the last write end of the pipe, which ends the thread
        forwarder.join(timeout=1)
        if not forwarder.is_alive():  # a process started in the block that outlives it keeps the pipe open
            os.close(real)


def _descriptor(stream: object) -> int | None:
    try:
        return stream.fileno()  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, OSError, ValueError):
        return None


def _forward(source: int, target: int) -> None:
    with open(source, "rb") as lines:
        for line in lines:
            if not CHATTER.search(line):
                os.write(target, line)
