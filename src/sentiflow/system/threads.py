"""Number of threads for linear algebra, which affects the last bits of results: it sets how sums are split."""

from threadpoolctl import threadpool_limits


def limit(count: int) -> None:
    """Set the number of threads of numpy's and SciPy's linear algebra in this process.

    The default is one per core or OMP_NUM_THREADS, so results would depend on the machine and on stages running in parallel.
    """
    import numpy  # noqa: F401  # only loaded libraries can be limited
    import scipy.linalg  # noqa: F401

    threadpool_limits(limits=count)
