"""How many threads compute: by their number sums are split, and so the last bits of a result follow from it."""

from threadpoolctl import threadpool_limits


def limit(count: int) -> None:
    """From now on numpy's and SciPy's linear algebra computes with that many threads in this process.

    By default it is one for every core, or what OMP_NUM_THREADS says, so that a stage gave other bytes on another machine, and
    beside another stage than alone.
    """
    import numpy  # noqa: F401  # only what is loaded can be limited
    import scipy.linalg  # noqa: F401

    threadpool_limits(limits=count)
