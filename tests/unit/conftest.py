import os

import publications
import pytest
from samples import training_data

from sentiflow.system import threads

# As in a stage: the last bits of sums depend on the number of threads, and so would trained weights.
# TensorFlow reads these variables once per process, at its first computation.
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


@pytest.fixture(scope="session", autouse=True)
def _one_thread_of_blas():
    threads.limit(1)


@pytest.fixture(scope="session")
def two_classes():
    return training_data()


@pytest.fixture(scope="session")
def three_classes():
    return training_data(classes=("negative", "neutral", "positive"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    return publications.train(tmp_path_factory.mktemp("trained"))
