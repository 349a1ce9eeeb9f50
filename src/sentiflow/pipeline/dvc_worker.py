"""A process that imports DVC once and runs DVC operations for another process, which is connected by a pipe.

It is started by `workers`, and dies with its stages if that process dies.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    # SIGINT stops a worker. While DVC is being imported there is nothing to clean up.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sentiflow.system import process_groups

    process_groups.die_with_starter()
    pipe = int(sys.argv[1])
    os.set_inheritable(pipe, False)  # stages must not keep it open
    from sentiflow.pipeline import dvc_operations

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        dvc_operations.serve(pipe)


if __name__ == "__main__":
    main()
