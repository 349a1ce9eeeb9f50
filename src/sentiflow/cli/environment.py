"""Environment variables of the program and of every process that it starts."""

import os
import sys
from pathlib import Path

from sentiflow.system import own_code

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def prepare() -> None:
    """Disable telemetry, keep Prefect's files in this folder, and put the programs of this environment first in PATH.

    Call it before DVC, MLflow or Prefect is imported. PATH makes a stage's `python` that of the environment, activated or not.
    """
    os.environ |= NO_TELEMETRY
    os.environ.setdefault("PREFECT_HOME", str(Path.cwd() / ".prefect"))
    _put_first("PATH", Path(sys.executable).parent)


def use_own_code() -> None:
    """Put the code of the project in this folder before any other package of the same name.

    Restarts the program if the environment of this folder has loaded the code of another one, because the user's PYTHONPATH
    contains that or .venv is a link.
    """
    own = Path.cwd() / "src"
    if own.is_dir():
        _put_first("PYTHONPATH", own)
    if not own_code.is_running() and Path(".venv").exists() and Path(".venv").samefile(sys.prefix):
        os.execv(sys.executable, [sys.executable, "-m", "sentiflow", *sys.argv[1:]])
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: `flows` and `services` are packages of this folder


def _put_first(variable: str, folder: Path) -> None:
    others = [each for each in os.environ.get(variable, "").split(os.pathsep) if each and each != str(folder)]
    os.environ[variable] = os.pathsep.join([str(folder), *others])
