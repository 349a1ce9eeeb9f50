"""Read files written by earlier stages. A missing or damaged file is an error that names it and says how to rebuild it."""

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sentiflow.system.errors import InputError


def read_table(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A parquet file, or some of its columns, as an Arrow table."""
    if not file.exists():  # Arrow's own error does not name the file
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
    try:
        return pq.read_table(file, columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, error) from None


def read_frame(file: Path) -> pd.DataFrame:
    frame: pd.DataFrame = read_table(file).to_pandas()
    return frame


def read_csv(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file)
    except ValueError as error:  # pandas's parser errors, and bytes that are not UTF-8
        raise damaged(file, error) from None


def read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(file, error) from None


def write_json(file: Path, value: Any) -> None:
    """Writes a JSON file with sorted keys."""
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def damaged(file: Path, error: Exception) -> InputError:
    return InputError(
        f"{file} was cut off or changed after its stage wrote it ({error}); delete it and run `dvc repro` to rebuild it"
    )
