import pytest

from sentiflow.registry import store as stores


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Client of a store of the module; the working folder is the store's."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # absolute: MLflow caches one connection per URI, whatever the working folder
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield stores.connect()
