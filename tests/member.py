"""What a member of the team does, in a process of its own: the environment says as whom, and at which server.

python tests/member.py publish KEY | answers VERSION
"""

import json
import sys
import tempfile
from pathlib import Path

import publications

from sentiflow.registry import model_versions, publishing, store


def publish(key):
    """Publishes a tiny model; prints the number of its version."""
    client = store.connect()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scores").mkdir()
        publication = publications.publication(publications.train(folder), folder / "scores", key=key * 64)
        parent = publishing.retraining(client, f"{key}-retraining")
        version = publishing.publish(client, publication, parent=parent)
    print(version.version)


def answers(number):
    """Prints what a version answers on two texts, after every file of it was checked."""
    client = store.connect()
    model = model_versions.opened(client, model_versions.version(client, number)).model
    print(json.dumps(model.predict(["a wonderful film", "a dull film"]).to_dict("list")))


if __name__ == "__main__":
    {"publish": publish, "answers": answers}[sys.argv[1]](sys.argv[2])
