"""Makes a commit's results again in a fresh clone of it, and compares every hash of its dvc.lock with what came out.

Nothing that a stage made is pulled or restored: the clone has a DVC cache of its own and an MLflow store of its own. Raw reviews
are taken from this folder, its DVC cache or the remote, and their hash is compared too.

It runs the commit's own code, with this user's rights: verify only a commit whose author you trust with that.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from ruamel.yaml import YAML

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
BEFORE_WEIGHTS = ("download", "clean", "split", "tokenize")  # no float kernel is behind what these make
# Precision and recall are not among them: a threshold that moves raises one by as much as it lowers the other.
SCORES = ("accuracy_score", "f1_score", "log_loss", "roc_auc_score")
ROUND = 1e-9  # a difference that is none

CACHE_AS_REMOTE = "sentiflow-cache"


@dataclass(frozen=True)
class Difference:
    """One thing of a stage that is not as dvc.lock has it."""

    kind: str  # command, parameter, reads, makes
    what: str
    committed: str
    here: str

    def __str__(self) -> str:
        return f"{self.kind} {self.what}: committed {self.committed}, here {self.here}"


@dataclass(frozen=True)
class Outcome:
    """What came of one stage."""

    stage: str
    verdict: str  # equal, differs, within TOLERANCE, other weights, not run
    details: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Machines:
    """What the models were trained on, as it was recorded and as it is here, where the two differ."""

    known: bool  # whether the commit has the record of every model that was trained here
    differences: list[str]
    trained: bool = True  # whether any model was

    @property
    def alike(self) -> bool:
        return self.known and not self.differences


def verify(commit: str, *, full: bool) -> bool:
    """Runs the stages of a commit in a clone and prints the comparison.

    Returns:
        Whether all that was compared is equal or, where other weights are to be expected, within the tolerance.

    Raises:
        InputError: if git does not know the commit, it has no results, or another environment is installed than it locks.
        SystemExit: 128 + the signal's number, if one stopped the run; every process of it has ended.
    """
    how = settings.load().verify
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
        _bring_reviews(folder)
        for entry in committed.values():
            for path in _hashes(entry, "outs"):  # or a stage whose small outputs git has might not run
                files.remove(folder / path)
        (folder / "dvc.lock").unlink()
        status = isolated_run.run_pipeline(folder, ["dvc.yaml"] if full else stages, _again(commit, full), _environment(folder))
        if status > 128:
            print(f"stopped; {folder} is kept, and the next run starts anew", file=sys.stderr)
            sys.exit(status)
        made = dvc_lock.read(folder / dvc_lock.FILE)
        machines = compare_machines(_record(sha), trained_in(folder, made))
        outcomes = [
            Outcome(name, "not run")
            if name in committed and name not in stages
            else _outcome(name, committed, made.get(name), machines, sha, folder, how.tolerance)
            for name in dict.fromkeys([*committed, *made])
        ]
        terminal.tell(report(outcomes, machines, how.tolerance), flush=True)
        good = status == 0 and all(each.verdict != "differs" for each in outcomes)
        if good:
            shutil.rmtree(folder)
        else:
            print(f"The run is kept in {folder}", flush=True)
    return good


def quick(committed: Mapping[str, Any]) -> list[str]:
    """Those of the data, and of the linear models, which train in seconds.

    Args:
        committed: the entries of dvc.lock, by stage.
    """
    linear = {name for name in networks.NETWORKS if issubclass(networks.settings_class(name), LinearSettings)}
    return [
        name
        for name, entry in committed.items()
        if name in BEFORE_WEIGHTS or ("@" in name and linear & {Path(path).stem for path in _hashes(entry, "deps")})
    ]


def differences(committed: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[Difference]:
    """What is not the same in two entries of dvc.lock."""
    if committed["cmd"] != here["cmd"]:
        yield Difference("command", "", committed["cmd"], here["cmd"])
    there, now = _flat(committed.get("params", {})), _flat(here.get("params", {}))
    for key in sorted(there.keys() | now.keys()):
        if there.get(key) != now.get(key):
            yield Difference("parameter", key, str(there.get(key, "none")), str(now.get(key, "none")))
    for kind, listed in (("reads", "deps"), ("makes", "outs")):
        was, found = _hashes(committed, listed), _hashes(here, listed)
        for path in sorted(was.keys() | found.keys()):
            if was.get(path) != found.get(path):
                yield Difference(kind, path, was.get(path, "none"), found.get(path, "none"))


def compare_machines(recorded: Mapping[str, Any] | None, here: Mapping[str, Any]) -> Machines:
    """What differs between the environments that models were trained in.

    Args:
        recorded: of the commit's models, by model; None where it has no record.
        here: of the models that were trained again.
    """
    if recorded is None:
        return Machines(known=False, differences=[], trained=bool(here))
    found: dict[str, None] = {}
    for name in here.keys() & recorded.keys():
        was, now = _flat(recorded[name]), _flat(here[name])
        for key in sorted(was.keys() | now.keys()):
            if was.get(key) != now.get(key):
                found[f"{key}: recorded {_shown(was.get(key))}, here {_shown(now.get(key))}"] = None
    return Machines(known=here.keys() <= recorded.keys(), differences=list(found), trained=bool(here))


def farthest(file: str, committed: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, float]:
    """The score of a metrics file that differs most, and by how much; infinite where one of the two lacks it."""
    was, now = _scores(file, committed), _scores(file, here)
    gaps = {name: abs(was[name] - now[name]) if name in was and name in now else float("inf") for name in was.keys() | now.keys()}
    return max(sorted(gaps.items()), key=lambda gap: gap[1])


def report(outcomes: Collection[Outcome], machines: Machines, tolerance: float) -> str:
    """The outcome of every stage, the kind of comparison and why, and one line that sums up."""
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
            "not known; another kind gives other weights."
        )
    elif machines.differences:
        lines.append(
            f"Compared by hash where no weights are behind it, by scores on test within {tolerance} where they are, since the "
            "models were trained on something else than this:"
        )
        lines += [f"    {each}" for each in machines.differences]
    else:
        lines.append("Compared by hash: the models were trained on this kind of processor, with the same versions.")
    counts = {verdict: sum(each.verdict == verdict for each in outcomes) for verdict in (each.verdict for each in outcomes)}
    lines.append(f"{len(outcomes)} stages: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}.")
    return "\n".join(lines)


def trained_in(folder: Path, stages: Collection[str]) -> dict[str, Any]:
    """The environments of the models that were trained in a folder, by model."""
    names = [name.removeprefix("train@") for name in stages if name.startswith("train@")]
    files = {name: folder / "models" / name / "environment.json" for name in names}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}


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
        return Outcome(name, "differs", ["it did not run to its end; what stopped it stands above"])
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
    scored, beyond = _scored(excused, sha, folder, tolerance)
    if not machines.known:
        return Outcome(name, "differs", [*map(str, found), *scored])
    if beyond or len(excused) < len(found):
        return Outcome(name, "differs", [*(str(each) for each in found if each not in excused), *scored])
    return Outcome(name, f"within {tolerance}" if scored else "other weights, not compared", scored)


def _scored(found: Collection[Difference], sha: str, folder: Path, tolerance: float) -> tuple[list[str], bool]:
    """What the metrics among some outputs say, and whether one is beyond the tolerance."""
    told, beyond = [], False
    for each in found:
        if each.kind == "makes" and (each.what == COMPARISON or each.what.startswith(TEST_SCORES)):
            was = json.loads(git.ask("show", f"{sha}:{each.what}"))
            score, gap = farthest(each.what, was, json.loads((folder / each.what).read_text(encoding="utf-8")))
            is_far = gap > tolerance + ROUND
            beyond |= is_far
            told.append(f"{each.what}: most in {score}, by {gap:.4f}, {'beyond' if is_far else 'within'} {tolerance}")
    return told, beyond


def _scores(file: str, told: Mapping[str, Any]) -> dict[str, float]:
    if file != COMPARISON:
        return {name: told[name] for name in SCORES if name in told}
    return {
        f"{model['architecture']}'s {split} {name}": model["scores"][split][name]
        for model in told["models"]
        for split in ("valid", "test")
        for name in SCORES
        if name in model["scores"][split]
    }


# ---- the commit


def _committed_lock(sha: str) -> dict[str, Any]:
    with_lock = "give a commit of: git log dvc.lock"
    try:
        stages = dvc_lock.of_commit(sha)
        paths = [path for entry in (stages or {}).values() for path in _hashes(entry, "outs")]
    except (ValueError, AttributeError, KeyError, TypeError):  # cut off, or entries of another shape
        raise InputError(f"the dvc.lock of commit {sha[:10]} is damaged; {with_lock}") from None
    if stages is None:
        raise InputError(f"commit {sha[:10]} has no dvc.lock, so no results to make again; {with_lock}")
    try:
        for path in paths:
            confined.require_path(path)
    except UnsafeError as error:
        raise UnsafeError(f"the dvc.lock of commit {sha[:10]} has an output outside the project: {error}; {with_lock}") from None
    return stages


def _uncommitted() -> list[str]:
    """Files that were changed, added or removed since the last commit, except those that git ignores."""
    quiet = ("--no-optional-locks", "-c", "core.quotePath=false")  # git status would write its index again
    status = git.ask(*quiet, "status", "--porcelain", "--no-renames", "--untracked-files=all")
    return [line[3:] for line in status.splitlines()]


def _record(sha: str) -> dict[str, Any] | None:
    """What each model was trained on, as the commit has it; None where it has none."""
    record = git.show(sha, RECORD)
    if record is None:
        return None
    return {name: entry["environment"] for entry in json.loads(record) for name in entry["architectures"]}


def _check_environment(sha: str) -> None:
    other = others_than_locked(git.show(sha, "requirements.lock") or "")
    if other:
        place = f"../{Path.cwd().name}-{sha[:10]}"
        raise InputError(
            f"commit {sha[:10]} locks other packages than are installed here: {terminal.some(other, most=5)}"
            f"; install them beside this folder and run with them: "
            f"git worktree add {place} {sha[:10]} && make -C {place} setup && "
            f"PYTHONPATH=src {place}/.venv/bin/python -m sentiflow verify {sha[:10]}"
        )


def others_than_locked(lock: str) -> list[str]:
    """The packages of a requirements.lock that are installed here in another version, or not at all."""
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


def _bring_reviews(folder: Path) -> None:
    """Lays the raw reviews into the clone: those that DVC tracks by their hash, all others of data/external as they are here."""
    if tracked := sorted((folder / fetching.WATCHED).rglob("*.dvc")):
        _pull(folder, [str(file.relative_to(folder)) for file in tracked])
    for file in (path for path in sorted(fetching.WATCHED.rglob("*")) if path.is_file()):
        if not (folder / file).exists():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder / file)
    # read as it is: an older commit has not all of today's keys
    download = YAML(typ="safe", pure=True).load((folder / isolated_run.PARAMS).read_text(encoding="utf-8"))["download"]
    location = download[download["source"]].get("location")
    if location is None or fetching.is_url(location) or Path(location).is_absolute() or (folder / location).exists():
        return
    if Path(os.path.normpath(location)).parts[0] == ".." or not Path(location).exists():
        raise InputError(
            f"the source of the commit is {location}, which is not in this folder; bring the file there, under "
            f"{fetching.WATCHED}, or commit its whole path"
        )
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    (folder / location).symlink_to(Path(location).absolute())


def _pull(folder: Path, names: Sequence[str]) -> None:
    """Downloads files that DVC tracks into the clone, from the project's cache (it has the layout of a remote) or the remote."""
    dvc = [sys.executable, "-P", "-m", "dvc"]
    add = [*dvc, "remote", "add", "--local", "--quiet", CACHE_AS_REMOTE, str(isolated_run.cache_of_project())]
    subprocess.run(add, cwd=folder, check=True, capture_output=True, env=os.environ | _environment(folder))
    targets = [str((folder / name).absolute()) for name in names]
    problem = ""
    for remote in (CACHE_AS_REMOTE, None):
        try:
            with objects.opened(folder) as project:
                project.pull(targets, remote)
            return
        except UnsafeError:
            raise
        except InputError as error:
            problem = str(error)
    raise InputError(
        f"DVC's cache and its remote have not all of {', '.join(names)} ({problem}); bring the reviews back: dvc pull"
    )


def _environment(folder: Path) -> dict[str, str]:
    store = f"sqlite:///{folder.absolute() / 'mlflow.db'}"
    return {
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_REGISTRY_URI": store,
        site.VARIABLE: str(site.private(folder.absolute() / ".dvc/site")),
    }


def _again(commit: str, full: bool) -> str:
    return f"sentiflow verify{'' if commit == 'HEAD' else f' {commit}'}{' --full' if full else ''}"


# ---- small parts


def _hashes(entry: Mapping[str, Any], listed: str) -> dict[str, str]:
    return {each["path"]: str(each.get("md5", each.get("hash", "none"))) for each in entry.get(listed, [])}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key} ") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
