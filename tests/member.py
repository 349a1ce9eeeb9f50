"""Actions of a team member, run as a separate process. The environment has the credentials and the server.

python tests/member.py publish KEY | answers VERSION
"""

import json
import sys
import tempfile
from pathlib import Path

import publications

from sentiflow.registry import model_versions, publishing, store


def publish(key):
    """Publish a tiny model, and print its version."""
    client = store.connect()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scores").mkdir()
        publication = publications.publication(publications.train(folder), folder / "scores", key=key * 64)
        parent = publishing.retraining(client, f"{key}-retraining")
        version = publishing.publish(client, publication, parent=parent)
    print(version.version)


def answers(number):
    """Print predictions of a version for two texts, after all of its files were checked."""
    client = store.connect()
    model = model_versions.opened(client, model_versions.version(client, number)).model
    print(json.dumps(model.predict(["a wonderful film", "a dull film"]).to_dict("list")))


if __name__ == "__main__":
    {"publish": publish, "answers": answers}[sys.argv[1]](sys.argv[2])
