"""A process that runs DVC for another one: DVC is imported once, and one stage after another is run as it is asked for.

Started by `workers`; it and its stages die with the process that started it.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    # Whoever ends a worker begins with an interrupt. While DVC is imported nothing is there to clear up.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sentiflow.system import process_groups

    process_groups.die_with_starter()
    requests, answers = (int(number) for number in sys.argv[1:3])
    for number in (requests, answers):
        os.set_inheritable(number, False)  # so that no stage holds them
    from sentiflow.pipeline import dvc_operations

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        dvc_operations.serve(requests, answers)


if __name__ == "__main__":
    main()
