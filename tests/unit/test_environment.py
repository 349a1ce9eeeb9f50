import json
import platform
from importlib import metadata

from sentiflow import environment


def test_environment_is_the_same_at_every_look_and_plain_data():
    found = environment.describe(gpus=["/device:GPU:0"])
    assert found == environment.describe(gpus=["/device:GPU:0"])
    assert json.loads(json.dumps(found)) == found
    assert found["gpus"] == ["/device:GPU:0"]


def test_environment_names_processor_cores_and_the_versions_that_are_installed():
    found = environment.describe(gpus=[])
    assert found["processor"].strip()
    assert found["cores"] >= 1
    assert found["python"] == platform.python_version()
    assert found["libraries"]["tensorflow"] == metadata.version("tensorflow")
