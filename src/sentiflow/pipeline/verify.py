"""Reproduces a commit's results in a fresh clone, and compares every hash in its dvc.lock with the result.

No output of a stage is pulled or restored: the clone has its own DVC cache and its own MLflow store. Raw reviews come from this
folder, its DVC cache or the remote, and their hash is compared too.

It runs the commit's code with this user's rights: verify only commits whose author you trust.
"""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from ruamel.yaml import YAML

from sentiflow.config import params
from sentiflow.config.model_settings import LinearSettings
from sentiflow.data.sources import fetching
from sentiflow.models import networks, settings
from sentiflow.pipeline import confined, isolated_run, objects, site
from sentiflow.pipeline.confined import UnsafeError
from sentiflow.system import dvc_lock, files, git, locks, terminal
from sentiflow.system.errors import InputError

FOLDER = Path(".cache/verify")
RECORD = "metrics/environment.json"
COMPARISON = "metrics/comparison.json"
TEST_SCORES = "metrics/test/"
BEFORE_WEIGHTS = ("download", "clean", "split", "tokenize")  # stages whose outputs do not depend on float kernels
# Precision and recall are not compared: when the threshold moves, one rises as much as the other falls.
SCORES = ("accuracy_score", "f1_score", "log_loss", "roc_auc_score")
ROUND = 1e-9  # rounding error of a difference


@dataclass(frozen=True)
class Difference:
    """A part of a stage that differs from dvc.lock."""

    kind: str  # command, parameter, reads, makes
    what: str
    committed: str
    here: str

    def __str__(self) -> str:
        return f"{self.kind} {self.what}: committed {self.committed}, here {self.here}"


@dataclass(frozen=True)
class Outcome:
    """Result of one stage."""

    stage: str
    verdict: str  # equal, differs, within TOLERANCE, other weights, not run
    details: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Machines:
    """Differences between the recorded environments of the models and those of this run."""

    known: bool  # whether the commit has a record for every model that was trained here
    differences: list[str]
    trained: bool = True  # whether any model was trained here

    @property
    def alike(self) -> bool:
        return self.known and not self.differences


def verify(commit: str, *, full: bool) -> bool:
    """Runs stages of a commit in a clone and prints the comparison.

    Args:
        full: all stages; otherwise `quick` ones.

    Returns:
        Whether everything compared is equal, or within the tolerance if the weights can differ.

    Raises:
        InputError: if git does not know the commit, it has no results, or its locked packages differ from the installed ones.
        SystemExit: 128 + the signal's number, if a signal stopped the run; all its processes have ended.
    """
    tolerance = settings.load().verify.tolerance
    sha = git.commit(commit)
    if Path(git.ask("rev-parse", "--show-toplevel").strip()).resolve() != Path.cwd().resolve():
        raise InputError(f"{Path.cwd()} is not the top folder of its git repository; run this there")
    committed = _committed_lock(sha)
    _check_environment(sha)
    stages = list(committed) if full else quick(committed)
    folder = FOLDER / sha[:12]
    if sha == git.ask("rev-parse", "HEAD").strip() and (changed := _uncommitted()):
        terminal.tell(f"not verified, since it is not committed: {terminal.some(changed, most=3)}", flush=True)
    title = git.ask("log", "-1", "--format=%h %s", sha).strip()
    terminal.tell(f"{title}: {len(stages)} of {len(committed)} stages, in {folder}", flush=True)
    with locks.locked(FOLDER / ".lock"):
        _clone(sha, folder)
        _add_reviews(folder)
        for entry in committed.values():
            for path in _hashes(entry, "outs"):  # or a stage whose small outputs are in git might not run
                files.remove(folder / path)
        (folder / dvc_lock.FILE).unlink()
        again = f"sentiflow verify{'' if commit == 'HEAD' else f' {commit}'}{' --full' if full else ''}"
        targets = isolated_run.ALL_STAGES if full else stages
        status = isolated_run.run_pipeline(folder, targets, again, _environment(folder))
        if status > 128:
            print(f"stopped; {folder} is kept, and the next run starts again from the beginning", file=sys.stderr)
            sys.exit(status)
        made = dvc_lock.read(folder / dvc_lock.FILE)
        machines = compare_machines(_record(sha), _trained_in(folder, made))
        outcomes = [
            Outcome(name, "not run")
            if name in committed and name not in stages
            else _outcome(name, committed, made.get(name), machines, sha, folder, tolerance)
            for name in dict.fromkeys([*committed, *made])
        ]
        terminal.tell(report(outcomes, machines, tolerance), flush=True)
        good = status == 0 and all(each.verdict != "differs" for each in outcomes)
        if good:
            shutil.rmtree(folder)
        else:
            print(f"The run is kept in {folder}", flush=True)
    return good


def quick(committed: Mapping[str, Any]) -> list[str]:
    """Names of the stages of the data and of the linear models, which train in seconds."""
    linear = {name for name in networks.NETWORKS if issubclass(networks.settings_class(name), LinearSettings)}
    return [
        name
        for name, entry in committed.items()
        if name in BEFORE_WEIGHTS or ("@" in name and linear & {Path(path).stem for path in _hashes(entry, "deps")})
    ]


# ---- the comparison


def differences(committed: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[Difference]:
    """Differences between two entries of dvc.lock."""
    if committed["cmd"] != here["cmd"]:
        yield Difference("command", "", committed["cmd"], here["cmd"])
    for kind, was, now in (
        ("parameter", _flat(committed.get("params", {})), _flat(here.get("params", {}))),
        ("reads", _hashes(committed, "deps"), _hashes(here, "deps")),
        ("makes", _hashes(committed, "outs"), _hashes(here, "outs")),
    ):
        for key in _changed(was, now):
            yield Difference(kind, key, str(was.get(key, "none")), str(now.get(key, "none")))


def compare_machines(recorded: Mapping[str, Any] | None, here: Mapping[str, Any]) -> Machines:
    """Compares the environments in which models were trained, by model; `recorded` is None if the commit has no record."""
    if recorded is None:
        return Machines(known=False, differences=[], trained=bool(here))
    found: dict[str, None] = {}
    for name in here.keys() & recorded.keys():
        was, now = _flat(recorded[name]), _flat(here[name])
        for key in _changed(was, now):
            found[f"{key}: recorded {_shown(was.get(key))}, here {_shown(now.get(key))}"] = None
    return Machines(known=here.keys() <= recorded.keys(), differences=list(found), trained=bool(here))


def farthest(file: str, committed: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, float]:
    """The score of a metrics file that differs most, and the difference; infinite if one of the files lacks it."""
    was, now = _scores(file, committed), _scores(file, here)
    gaps = {name: abs(was[name] - now[name]) if name in was and name in now else float("inf") for name in was.keys() | now.keys()}
    return max(sorted(gaps.items()), key=lambda gap: gap[1])


def report(outcomes: Collection[Outcome], machines: Machines, tolerance: float) -> str:
    """The outcome of every stage, the kind of comparison and its reason, and a summary line."""
    width = max(len(outcome.stage) for outcome in outcomes)
    lines = [""]
    for outcome in outcomes:
        lines.append(f"{outcome.stage:<{width}}  {outcome.verdict}")
        lines += [f"    {detail}" for detail in outcome.details]
    lines.append("")
    if not machines.trained:
        lines.append("Compared by hash: no model was trained.")
    elif not machines.known:
        lines.append(
            f"Compared by hash. The commit has no {RECORD} for these models, so whether they were trained on such a processor is "
            "unknown; another kind gives other weights."
        )
    elif machines.differences:
        lines.append(
            "Compared by hash for outputs that do not depend on weights, and by scores on test within "
            f"{tolerance} for all others, because the models were trained in another environment:"
        )
        lines += [f"    {each}" for each in machines.differences]
    else:
        lines.append("Compared by hash: the models were trained on this kind of processor, with the same versions.")
    counts = Counter(outcome.verdict for outcome in outcomes)
    lines.append(f"{len(outcomes)} stages: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}.")
    return "\n".join(lines)


def _outcome(
    name: str,
    committed: Mapping[str, Any],
    here: Mapping[str, Any] | None,
    machines: Machines,
    sha: str,
    folder: Path,
    tolerance: float,
) -> Outcome:
    if here is None:
        return Outcome(name, "differs", ["it did not finish; the reason is above"])
    if name not in committed:
        return Outcome(name, "differs", ["the commit's dvc.lock has no such stage"])
    found = list(differences(committed[name], here))
    if not found:
        return Outcome(name, "equal")
    if machines.alike:
        return Outcome(name, "differs", [str(each) for each in found])
    weights = [path for stage in committed if stage not in BEFORE_WEIGHTS for path in _hashes(committed[stage], "outs")]
    excused = [
        each for each in found if each.kind in ("reads", "makes") and any(files.overlap(each.what, path) for path in weights)
    ]
    scored, is_far = _compare_scores(excused, sha, folder, tolerance)
    if not machines.known:
        return Outcome(name, "differs", [*map(str, found), *scored])
    if is_far or len(excused) < len(found):
        return Outcome(name, "differs", [*(str(each) for each in found if each not in excused), *scored])
    return Outcome(name, f"within {tolerance}" if scored else "other weights, not compared", scored)


def _compare_scores(excused: Collection[Difference], sha: str, folder: Path, tolerance: float) -> tuple[list[str], bool]:
    """Compares the metrics among some outputs; returns a line for each, and whether one exceeds the tolerance."""
    lines, any_far = [], False
    for each in excused:
        if each.kind == "makes" and (each.what == COMPARISON or each.what.startswith(TEST_SCORES)):
            was = json.loads(git.ask("show", f"{sha}:{each.what}"))
            score, gap = farthest(each.what, was, json.loads((folder / each.what).read_text(encoding="utf-8")))
            is_far = gap > tolerance + ROUND
            any_far |= is_far
            lines.append(f"{each.what}: most in {score}, by {gap:.4f}, {'beyond' if is_far else 'within'} {tolerance}")
    return lines, any_far


def _scores(file: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    if file != COMPARISON:
        return {name: metrics[name] for name in SCORES if name in metrics}
    return {
        f"{model['architecture']}'s {split} {name}": model["scores"][split][name]
        for model in metrics["models"]
        for split in ("valid", "test")
        for name in SCORES
        if name in model["scores"][split]
    }


def _hashes(entry: Mapping[str, Any], kind: str) -> dict[str, str]:
    return {each["path"]: str(each.get("md5", each.get("hash", "none"))) for each in entry.get(kind, [])}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key} ") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [key for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key)]


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


# ---- the commit


def _committed_lock(sha: str) -> dict[str, Any]:
    advice = "give a commit from: git log dvc.lock"
    try:
        stages = dvc_lock.of_commit(sha)
        paths = [path for entry in (stages or {}).values() for path in _hashes(entry, "outs")]
    except (ValueError, AttributeError, KeyError, TypeError):  # truncated, or entries of another shape
        raise InputError(f"the dvc.lock of commit {sha[:10]} is damaged; {advice}") from None
    if stages is None:
        raise InputError(f"commit {sha[:10]} has no dvc.lock, so no results to reproduce; {advice}")
    try:
        for path in paths:
            confined.require_path(path)
    except UnsafeError as error:
        raise UnsafeError(f"the dvc.lock of commit {sha[:10]} has an output outside the project: {error}; {advice}") from None
    return stages


def _uncommitted() -> list[str]:
    """Files that were changed, added or removed since the last commit, except ignored ones."""
    options = ("--no-optional-locks", "-c", "core.quotePath=false")  # git status would rewrite its index
    status = git.ask(*options, "status", "--porcelain", "--no-renames", "--untracked-files=all")
    return [line[3:] for line in status.splitlines()]


def _record(sha: str) -> dict[str, Any] | None:
    """The recorded environment of each model; None if the commit has no record."""
    record = git.show(sha, RECORD)
    if record is None:
        return None
    return {name: entry["environment"] for entry in json.loads(record) for name in entry["architectures"]}


def _trained_in(folder: Path, stages: Collection[str]) -> dict[str, Any]:
    """The environment of each model that was trained in a folder."""
    names = [name.removeprefix("train@") for name in stages if name.startswith("train@")]
    found = {name: folder / "models" / name / "environment.json" for name in names}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in found.items() if file.exists()}


def _check_environment(sha: str) -> None:
    if other := others_than_locked(git.show(sha, "requirements.lock") or ""):
        place = f"../{Path.cwd().name}-{sha[:10]}"
        raise InputError(
            f"commit {sha[:10]} locks other packages than are installed here: {terminal.some(other, most=5)}"
            f"; install them next to this folder and use them: "
            f"git worktree add {place} {sha[:10]} && make -C {place} setup && "
            f"PYTHONPATH=src {place}/.venv/bin/python -m sentiflow verify {sha[:10]}"
        )


def others_than_locked(lock: str) -> list[str]:
    """Packages in a requirements.lock that are not installed here, or in another version."""
    found = []
    for line in lock.splitlines():
        if not line or line.startswith((" ", "#")):
            continue
        try:
            wanted = Requirement(line.rstrip("\\ "))
        except InvalidRequirement:
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            found.append(f"{wanted.name}{wanted.specifier} (not installed)")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            found.append(f"{wanted.name}{wanted.specifier} (installed: {version})")
    return found


# ---- the clone


def _clone(sha: str, folder: Path) -> None:
    files.remove(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    git.ask("clone", "--quiet", "--shared", "--no-checkout", "--", str(Path.cwd()), str(folder))
    git.ask("-C", str(folder), "checkout", "--quiet", "--detach", sha)
    try:
        confined.require_links_inside(folder)
    except UnsafeError as error:
        raise UnsafeError(f"{error}; nothing was run and nothing was written outside {folder}; verify another commit") from None
    isolated_run.write_config(folder / ".dvc/config.local", (folder / ".dvc/cache").absolute(), links="copy")


def _add_reviews(folder: Path) -> None:
    """Puts the raw reviews into the clone: those that DVC tracks by their hash, all others as they are in data/external."""
    if tracked := sorted((folder / fetching.WATCHED).rglob("*.dvc")):
        _pull(folder, [str(file.relative_to(folder)) for file in tracked])
    for file in (path for path in sorted(fetching.WATCHED.rglob("*")) if path.is_file()):
        if not (folder / file).exists():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder / file)
    # not validated: an older commit lacks some of today's keys
    download = YAML(typ="safe", pure=True).load((folder / params.FILE).read_text(encoding="utf-8"))["download"]
    location = download[download["source"]].get("location")
    if location is None or fetching.is_url(location) or Path(location).is_absolute() or (folder / location).exists():
        return
    if Path(os.path.normpath(location)).parts[0] == ".." or not Path(location).exists():
        raise InputError(
            f"the source of the commit is {location}, which is not in this folder; put the file there, in "
            f"{fetching.WATCHED}, or commit its absolute path"
        )
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    (folder / location).symlink_to(Path(location).absolute())


def _pull(folder: Path, names: Sequence[str]) -> None:
    """Downloads files that DVC tracks into the clone, from the project's cache (it has the layout of a remote) or the remote."""
    cache = json.dumps(str(isolated_run.cache_of_project()))
    with (folder / ".dvc/config.local").open("a", encoding="utf-8") as config:
        config.write(f"['remote \"sentiflow-cache\"']\n    url = {cache}\n")
    problem = ""
    for remote in ("sentiflow-cache", None):
        try:
            with objects.opened(folder) as project:
                project.pull([str((folder / name).absolute()) for name in names], remote)
            return
        except UnsafeError:
            raise
        except InputError as error:
            problem = str(error)
    raise InputError(
        f"{', '.join(names)}: not all files are in DVC's cache or on its remote ({problem}); get them back: dvc pull"
    )


def _environment(folder: Path) -> dict[str, str]:
    store = f"sqlite:///{folder.absolute() / 'mlflow.db'}"
    return {
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_REGISTRY_URI": store,
        site.VARIABLE: str(site.private(folder.absolute() / ".dvc/site")),
    }
