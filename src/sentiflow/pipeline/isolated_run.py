"""A side run: the same pipeline with other values, in a folder of its own under .cache/side.

It shares DVC's cache with the project and nothing else. What the project has trained is restored there and not trained again,
what a side run has trained is restored in the project later, and params.yaml, dvc.lock, metrics and reports of the project
stay as they are.

`all` runs every model, whatever `run:` names, and publishes to the project's own MLflow store.
`sample 400` is a trial: the same pipeline on 400 reviews, with an MLflow store of its own.
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

from sentiflow.data.sources import SOURCES, fetching
from sentiflow.models import settings
from sentiflow.pipeline import recovery, repro, site
from sentiflow.registry import location
from sentiflow.system import files, locks, process_groups, stage
from sentiflow.system.errors import InputError

FOLDER = Path(".cache/side")
FEWEST_ROWS = 20  # as download.sample allows
CODE = ("stages", "src")
FILES = ("dvc.yaml", ".dvcignore")
PARAMS = Path("params.yaml")
COMPARISON, PAGE = Path("reports/all.md"), Path("reports/all.html")
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
    """Runs every model, publishes to the project's MLflow store, and brings the reports to reports/all.*.

    Raises:
        InputError, SystemExit: as `run` does; the reports of an earlier run stay.
    """
    models = settings.load().networks
    print(f"Every model ({len(models)}), in {FOLDER / 'all'}; what is trained already is restored.", flush=True)
    store = {"MLFLOW_TRACKING_URI": tracking_uri()}
    # the pipeline's file as a target is all its stages, without the summary, whose paths would be those of the side run
    targets = [str(recovery.PIPELINE_FILE)]
    with running("all", {"run": models}, again="sentiflow all-models", targets=targets, environment=store) as folder:
        sources = {folder / repro.COMPARISON: COMPARISON, repro.page_of(folder): PAGE}
        made = {source: target for source, target in sources.items() if source.exists()}
        for source, target in made.items():
            with stage.writing(target) as (place,):
                shutil.copyfile(source, place)
    print(f"{COMPARISON.read_text(encoding='utf-8').strip()}\n")
    print(f"Reports: {', '.join(map(str, made.values()))}\nMLflow UI: {repro.mlflow_server() or 'sentiflow ui'}")


def run_sample(rows: int) -> None:
    """Runs the whole pipeline on a sample of the reviews and prints where its results are; they stay in its folder.

    Args:
        rows: how many, drawn evenly over the labels.

    Raises:
        InputError, SystemExit: as `run` does.
    """
    if rows < FEWEST_ROWS:
        raise InputError(
            f"received --sample {rows}; expected at least {FEWEST_ROWS} reviews, for example: sentiflow repro --sample 400"
        )
    again = f"sentiflow repro --sample {rows}"
    print(f"A trial on {rows:,} reviews, in {FOLDER / 'sample'}; params.yaml, reports and MLflow's store stay as they are.")
    own_store = {"MLFLOW_TRACKING_URI": location.DEFAULT_STORE}
    changes = {"download.sample": rows}
    with running("sample", changes, again=again, targets=[str(recovery.PIPELINE_FILE)], environment=own_store) as folder:
        print((folder / "reports/comparison.md").read_text(encoding="utf-8"))
        print(f"Reports of this trial: {repro.page_of(folder)}")
        print(f"Its MLflow store: sqlite:///{folder.absolute() / 'mlflow.db'}")


@contextlib.contextmanager
def running(
    name: str,
    changes: Mapping[str, Any],
    *,
    again: str,
    targets: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Path]:
    """Runs what is stale of a side run and gives its folder; within the block nobody else runs it.

    Args:
        name: of its folder under .cache/side.
        changes: values by dotted key of params.yaml, such as {"train.patience": None}.
        again: the command that goes on where a side run was stopped.
        targets: stages to run, with those they depend on; all where none is given.
        environment: variables added to those of this process.

    Raises:
        InputError: if params.yaml has a slip, this is not the top of the project, or a stage failed.
        SystemExit: 128 + the signal's number, if one stopped it; every process of it has ended.
    """
    settings.load()
    cache = cache_of_project()
    folder = FOLDER / name
    with locks.locked(FOLDER / f".{name}.lock"):
        # a run whose starter was killed still reads what is about to be replaced
        with locks.locked(folder / recovery.TMP / "sentiflow.lock"):
            refresh(folder, changes, cache=cache)
        status = run_pipeline(folder, targets, again, environment or {})
        if status > 128:
            sys.exit(status)
        if status != 0:
            raise InputError(
                f"the run in {folder} ended with status {status}; put right what it says above, then `{again}` goes on"
            )
        yield folder


def refresh(folder: Path, changes: Mapping[str, Any], *, cache: Path) -> None:
    """Brings a side run's folder up to the project as it stands: code, pipeline, the user's data, and changed values.

    What its stages made stays, so that only what a change touches runs again.

    Args:
        changes: values by dotted key of params.yaml.
        cache: DVC's cache.
    """
    # first: a folder with a pipeline but no .dvc would count as a part of the project
    write_config(folder / ".dvc/config", cache, no_scm=True)
    for name in FILES:
        files.write(folder / name, Path(name).read_text(encoding="utf-8"))
    for name in CODE:
        shutil.rmtree(folder / name, ignore_errors=True)
        if Path(name).is_dir():  # a project may use the installed package
            shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
    _link(fetching.WATCHED.absolute(), folder / fetching.WATCHED)
    files.write(folder / PARAMS, with_changes(PARAMS.read_text(encoding="utf-8"), _locations() | dict(changes)))
    settings.load(folder / PARAMS)


def write_config(file: Path, cache: Path, *, no_scm: bool = False, links: str = "reflink,copy") -> None:
    """Writes settings of DVC that give a folder its cache.

    Args:
        no_scm: whether it works without git.
        links: how DVC takes files out of the cache, in the order in which the ways are tried.
    """
    files.write(file, CONFIG.format(no_scm=str(no_scm).lower(), cache=json.dumps(str(cache)), links=links))


def with_changes(text: str, changes: Mapping[str, Any]) -> str:
    """A params.yaml with some values replaced by dotted key; comments and all other values stay.

    >>> with_changes("train:  # how\\n  patience: 2  # epochs\\n  seed: null\\n", {"train.patience": 3})
    'train:  # how\\n  patience: 3  # epochs\\n  seed: null\\n'
    """
    yaml = YAML()
    yaml.Representer = _WithNull
    yaml.preserve_quotes = True
    yaml.width = sys.maxsize
    yaml.indent(mapping=2, sequence=4, offset=2)  # as the file is written
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


class _WithNull(RoundTripRepresenter):
    """Writes null where ruamel.yaml leaves a value empty."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        null = {type(None): lambda it, _: it.represent_scalar("tag:yaml.org,2002:null", "null")}
        self.yaml_representers = {**self.yaml_representers, **null}


def cache_of_project() -> Path:
    if not Path(".dvc").is_dir():
        raise InputError(
            f"no .dvc folder in {Path.cwd()}; run this from the top folder of the project, copied with its hidden files"
        )
    command = [sys.executable, "-P", "-m", "dvc", "cache", "dir"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | site.environment())
    if asked.returncode != 0:
        raise InputError(f"DVC does not say where its cache is: {asked.stderr.strip()}; put .dvc/config right and run again")
    return Path(asked.stdout.strip()).absolute()


def _locations() -> dict[str, str]:
    """Where a source of params.yaml is a path that does not lead into data/external, the same path from the top of the disk."""
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
    """The store that the project itself publishes to, named so that it is the same from any folder."""
    scheme, uri = "sqlite:///", repro.tracking_uri()
    return f"{scheme}{Path(uri.removeprefix(scheme)).absolute()}" if uri.startswith(scheme) else uri


def _link(target: Path, link: Path) -> None:
    if link.is_symlink() and link.readlink() != target:  # the project was moved
        link.unlink()
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def run_pipeline(folder: Path, targets: Sequence[str], again: str, environment: Mapping[str, str]) -> int:
    """Runs the pipeline there and gives its exit status; a signal that comes meanwhile is passed on, once."""
    path = os.pathsep.join(filter(None, [str((folder / "src").absolute()), os.environ.get("PYTHONPATH")]))
    received: list[int] = []
    passed = 0
    with process_groups.signals_to(lambda number, _: received.append(number)):
        sys.stdout.flush()
        # In a process group of its own: a Ctrl-C in the terminal reaches this process alone, and a second one, which kills,
        # would otherwise seem to have come at once.
        child = subprocess.Popen(
            [sys.executable, "-m", "sentiflow", "repro", "--again", again, *targets],
            cwd=folder,
            env=os.environ | environment | {"PYTHONPATH": path} | process_groups.of_this_process(),
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        while (status := child.poll()) is None:
            for number in received[passed:]:
                child.send_signal(number)
                passed += 1
            time.sleep(0.05)
    return status if status >= 0 else 128 - status
