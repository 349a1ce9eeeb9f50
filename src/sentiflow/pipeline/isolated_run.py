"""Isolated run: the same pipeline with other values in params.yaml, in a folder of its own under .cache/side.

It shares only DVC's cache with the project: models that the project has trained are restored, and models that an isolated run has
trained are restored in the project later. The project's params.yaml, dvc.lock, metrics and reports do not change.

`all` runs every model, whether it is in `run:` or not, and publishes to the project's MLflow store.
`sample 400` is a trial: the same pipeline on 400 reviews, with its own MLflow store.
"""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from sentiflow.config import params
from sentiflow.data.sources import SOURCES, fetching
from sentiflow.models import settings
from sentiflow.pipeline import objects, recovery, repro
from sentiflow.registry import location
from sentiflow.system import files, locks, process_groups, stage
from sentiflow.system.errors import InputError

FOLDER = Path(".cache/side")
FEWEST_ROWS = 20  # minimum of download.sample
COMPARISON, PAGE = Path("reports/all.md"), Path("reports/all.html")
# A target that means all stages; without a target `sentiflow repro` also prints a summary, with paths in the isolated run.
ALL_STAGES = (str(recovery.PIPELINE_FILE),)
CONFIG = """\
[core]
    no_scm = {no_scm}
    analytics = false
    check_update = false
[cache]
    dir = {cache}
    type = "{links}"
"""


def run_all() -> None:
    """Runs every model, publishes to the project's MLflow store, and copies the reports to reports/all.* if that succeeds."""
    models = settings.load().networks
    print(f"Every model ({len(models)}), in {FOLDER / 'all'}; models that are trained already are restored.", flush=True)
    environment = {"MLFLOW_TRACKING_URI": tracking_uri()}
    with running("all", {"run": models}, again="sentiflow all-models", environment=environment) as folder:
        for source, target in ((folder / repro.COMPARISON, COMPARISON), (repro.page_of(folder), PAGE)):
            with stage.writing(target) as (partial,):
                shutil.copyfile(source, partial)
    print(f"{COMPARISON.read_text(encoding='utf-8').strip()}\n")
    print(f"Reports: {COMPARISON}, {PAGE}\nMLflow UI: {repro.mlflow_server() or 'sentiflow ui'}")


def run_sample(rows: int) -> None:
    """Runs the pipeline on a balanced sample of this many reviews; prints the comparison and where the results are."""
    if rows < FEWEST_ROWS:
        raise InputError(
            f"received --sample {rows}; expected at least {FEWEST_ROWS} reviews, for example: sentiflow repro --sample 400"
        )
    print(f"A trial on {rows:,} reviews, in {FOLDER / 'sample'}; params.yaml, reports and MLflow's store stay as they are.")
    environment = {"MLFLOW_TRACKING_URI": location.DEFAULT_STORE}
    again = f"sentiflow repro --sample {rows}"
    with running("sample", {"download.sample": rows}, again=again, environment=environment) as folder:
        print((folder / "reports/comparison.md").read_text(encoding="utf-8"))
        print(f"Reports of this trial: {repro.page_of(folder)}")
        print(f"Its MLflow store: sqlite:///{folder.absolute() / 'mlflow.db'}")


@contextlib.contextmanager
def running(
    name: str,
    changes: Mapping[str, Any],
    *,
    again: str,
    targets: Sequence[str] = ALL_STAGES,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Path]:
    """Runs the stale stages of an isolated run and yields its folder, which no other process runs within the block.

    Args:
        name: of its folder under .cache/side.
        changes: values by dotted key of params.yaml, such as {"train.patience": None}.
        again: command that resumes the run, for messages.
        targets: stages to run, with those that they depend on.
        environment: variables added to those of this process.

    Raises:
        InputError: if params.yaml is invalid, this is not the top folder of the project, or a stage failed.
        SystemExit: 128 + the signal's number, if a signal stopped it; all its processes have ended.
    """
    settings.load()
    cache = cache_of_project()
    folder = FOLDER / name
    with locks.locked(FOLDER / f".{name}.lock"):
        # a run whose parent was killed may still read the files that are about to be replaced
        with locks.locked(folder / recovery.TMP / "sentiflow.lock"):
            refresh(folder, changes, cache=cache)
        status = run_pipeline(folder, targets, again, environment or {})
        if status > 128:
            sys.exit(status)
        if status != 0:
            raise InputError(f"the run in {folder} ended with status {status}; correct the error above, then `{again}` resumes")
        yield folder


def refresh(folder: Path, changes: Mapping[str, Any], *, cache: Path) -> None:
    """Updates the folder of an isolated run from the project: code, dvc.yaml, the user's data, and params.yaml with changes.

    The outputs of its stages stay, so only what a change affects runs again.
    """
    # first: DVC takes a folder with a dvc.yaml but no .dvc for a part of the project
    write_config(folder / ".dvc/config", cache, no_scm=True)
    for name in ("dvc.yaml", ".dvcignore"):
        files.write(folder / name, Path(name).read_text(encoding="utf-8"))
    for name in ("stages", "src"):
        shutil.rmtree(folder / name, ignore_errors=True)
        if Path(name).is_dir():  # a project may use the installed package
            shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
    link, target = folder / fetching.WATCHED, fetching.WATCHED.absolute()
    if link.is_symlink() and link.readlink() != target:  # the project was moved
        link.unlink()
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    values = with_changes(params.FILE.read_text(encoding="utf-8"), _locations() | dict(changes))
    files.write(folder / params.FILE, values)
    settings.load(folder / params.FILE)


def write_config(file: Path, cache: Path, *, no_scm: bool = False, links: str = "reflink,copy") -> None:
    """Writes a DVC configuration; `links` is DVC's `cache.type`."""
    files.write(file, CONFIG.format(no_scm=str(no_scm).lower(), cache=json.dumps(str(cache)), links=links))


class _WithNull(RoundTripRepresenter):
    """Writes null where ruamel.yaml leaves a value empty."""

    yaml_representers = {  # noqa: RUF012  # not a ClassVar in the base class
        **RoundTripRepresenter.yaml_representers,
        type(None): lambda it, _: it.represent_scalar("tag:yaml.org,2002:null", "null"),
    }


def with_changes(text: str, changes: Mapping[str, Any]) -> str:
    """The text of a params.yaml with some values replaced; comments and all other values stay.

    Args:
        changes: values by dotted key.

    Raises:
        KeyError: if there is no such key.

    >>> with_changes("train:  # how\\n  patience: 2  # epochs\\n  seed: null\\n", {"train.patience": 3})
    'train:  # how\\n  patience: 3  # epochs\\n  seed: null\\n'
    """
    yaml = YAML()
    yaml.Representer = _WithNull
    yaml.preserve_quotes = True
    yaml.width = sys.maxsize
    yaml.indent(mapping=2, sequence=4, offset=2)
    values = yaml.load(text)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = values
        for name in sections:
            section = section[name]
        if last not in section:
            raise KeyError(key)
        section[last] = value
    changed = io.StringIO()
    yaml.dump(values, changed)
    return changed.getvalue()


def cache_of_project() -> Path:
    """Folder of the project's DVC cache."""
    if not Path(".dvc").is_dir():
        raise InputError(
            f"no .dvc folder in {Path.cwd()}; run this in the top folder of the project, copied with its hidden files"
        )
    with objects.opened() as project:
        return project.cache_folder


def _locations() -> dict[str, str]:
    """Absolute paths, by dotted key, for the sources in params.yaml whose location is a path outside data/external."""
    download = settings.load().download
    given: dict[str, str] = {}
    for name in SOURCES:
        location, key = getattr(getattr(download, name), "location", None), f"download.{name}.location"
        if isinstance(location, dict):
            given |= {f"{key}.{split}": each for split, each in location.items()}
        elif location is not None:
            given[key] = location
    return {
        key: str(Path(location).absolute())
        for key, location in given.items()
        if not fetching.is_url(location) and not Path(os.path.normpath(location)).is_relative_to(fetching.WATCHED)
    }


def tracking_uri() -> str:
    """The MLflow store that the project publishes to, with an absolute path if it is a SQLite file."""
    scheme, uri = "sqlite:///", repro.tracking_uri()
    return f"{scheme}{Path(uri.removeprefix(scheme)).absolute()}" if uri.startswith(scheme) else uri


def run_pipeline(folder: Path, targets: Sequence[str], again: str, environment: Mapping[str, str]) -> int:
    """Runs `sentiflow repro` in a folder and returns its exit status; signals received meanwhile are forwarded, each once."""
    path = os.pathsep.join(filter(None, [str((folder / "src").absolute()), os.environ.get("PYTHONPATH")]))
    received: list[int] = []
    forwarded = 0
    with process_groups.signals_to(lambda number, _: received.append(number)):
        sys.stdout.flush()
        # In its own process group: otherwise Ctrl-C in the terminal would reach it twice, and a second one kills at once.
        child = subprocess.Popen(
            [sys.executable, "-m", "sentiflow", "repro", "--again", again, *targets],
            cwd=folder,
            env=os.environ | environment | {"PYTHONPATH": path} | process_groups.of_this_process(),
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        while (status := child.poll()) is None:
            for number in received[forwarded:]:
                child.send_signal(number)
                forwarded += 1
            time.sleep(0.05)
    return status if status >= 0 else 128 - status
