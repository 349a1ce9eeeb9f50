"""DVC experiments are not published to MLflow: most are discarded, and so is the default store of a temporary one."""

import json
import os
from pathlib import Path

from sentiflow.system import stage

NAME = "DVC_EXP_NAME"  # set by DVC for the stages of `dvc exp run`: in the workspace, with --temp, and from the queue


def skip(output: Path) -> bool:
    """In an experiment, writes a placeholder for the output of a publishing stage, and logs how to publish.

    Returns:
        Whether this is an experiment, which must not be published.
    """
    name = os.environ.get(NAME)
    if name is None:
        return False
    with stage.writing(output) as (place,):
        place.write_text(json.dumps({"experiment": name}) + "\n", encoding="utf-8")
    stage.log.info("an experiment is not published; to publish it: dvc exp apply %s, then sentiflow repro", name)
    return True


def is_note(file: Path) -> bool:
    """Whether an output of a publishing stage is a placeholder from `skip`."""
    try:
        return "experiment" in json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, TypeError):
        return False
