import os

import publications
import pytest
from samples import training_data

from sentiflow.system import threads

# As in a stage: from the number of threads follow the last bits of a sum, and two trainings might not end with the same weights.
# TensorFlow reads these at its first computation, of which a worker of pytest has one for all files.
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
