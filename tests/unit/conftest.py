import publications
import pytest
from samples import training_data


@pytest.fixture(scope="session")
def two_classes():
    return training_data()


@pytest.fixture(scope="session")
def three_classes():
    return training_data(classes=("negative", "neutral", "positive"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    return publications.train(tmp_path_factory.mktemp("trained"))
