import pytest

from sentiflow.registry import store as stores


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of the module's own, and its client; the working folder is where the store lies."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # its whole path: MLflow keeps one connection for each name of a store, whatever folder it was opened in
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield stores.connect()
