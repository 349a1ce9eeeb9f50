"""How long each epoch took: a note beside the pipeline, since no two runs take equally long and DVC's outputs must not differ."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from sentiflow import files


def write(record_file: Path, model_dir: Path, seconds: Sequence[float]) -> None:
    """Notes the seconds of each epoch of the model that lies in `model_dir`."""
    record = {"weights_sha256": _hash_of_weights(model_dir), "seconds": [round(value, 3) for value in seconds]}
    record_file.parent.mkdir(parents=True, exist_ok=True)
    partial = record_file.with_suffix(".partial")
    partial.write_text(json.dumps(record) + "\n", encoding="utf-8")
    partial.replace(record_file)


def read(record_file: Path, model_dir: Path) -> list[float] | None:
    """The seconds of each epoch; None where the model came from DVC's cache and was not trained here."""
    if not record_file.exists():
        return None
    record = files.read_json(record_file)
    return list(record["seconds"]) if record["weights_sha256"] == _hash_of_weights(model_dir) else None


def _hash_of_weights(model_dir: Path) -> str:
    [weights] = [*model_dir.glob("*.h5"), *model_dir.glob("*.npz")]
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
