"""Duration and machine load of a training. Kept outside DVC's outputs, which must be the same for every run.

There is one record per model that was trained here, named by the SHA-256 of its weights.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sentiflow.system import artifacts, files
from sentiflow.system.system_metrics import Sample


@dataclass(frozen=True)
class Record:
    seconds: Sequence[float]  # of each epoch
    system: Sequence[Sample]  # from `system_metrics.watching`


def write(records_dir: Path, model_dir: Path, record: Record) -> None:
    """Writes the record of the model in `model_dir`."""
    rounded = Record([round(value, 3) for value in record.seconds], record.system)
    files.write(_file(records_dir, model_dir), json.dumps(asdict(rounded)) + "\n")


def read(records_dir: Path, model_dir: Path) -> Record | None:
    """The record of a model; None if it came from DVC's cache and was not trained here."""
    file = _file(records_dir, model_dir)
    return Record(**artifacts.read_json(file)) if file.exists() else None


def _file(records_dir: Path, model_dir: Path) -> Path:
    [weights] = [*model_dir.glob("*.h5"), *model_dir.glob("*.npz")]
    with weights.open("rb") as opened:
        return records_dir / f"{hashlib.file_digest(opened, 'sha256').hexdigest()}.json"
