"""List the versions of the data in git's history, from dvc.lock and the metrics committed with it. Nothing is downloaded.

A version is a commit of this branch after which data/reviews or data/splits has other content. Merged commits count where they
were merged.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sentiflow.data import source_changes, sources
from sentiflow.data.sources.source import Url
from sentiflow.models import settings
from sentiflow.system import dvc_lock, git, markdown, terminal
from sentiflow.system.errors import InputError

LOCK, CARD, PROOF = dvc_lock.FILE, Path("metrics/data_card.json"), Path("metrics/splits.json")
REVIEWS, SPLITS = "data/reviews", "data/splits"
STAGES = ("download", "clean", "split")  # the stages that write the data
FIELD = "\x1f"
HEADER = ["commit", "date", "author", "rows", "labels", "train / valid / test", "hash", "source", "change"]
SHORT = 10  # digits of a hash


@dataclass(frozen=True)
class Data:
    """Data as recorded in dvc.lock and the metrics. Numbers are None if their file is missing or of another version."""

    reviews: str  # MD5 of data/reviews in dvc.lock
    splits: str | None
    source: str
    rows: int | None
    labels: Mapping[str, int] | None  # rows by label
    sizes: Mapping[str, int] | None  # rows by split
    source_sha256: str | None
    params: Mapping[str, Any]  # by dotted name
    code: Mapping[str, str]  # MD5 by path

    @property
    def key(self) -> tuple[str, str | None]:
        return self.reviews, self.splits


class Version(NamedTuple):
    """A commit that changed the data."""

    commit: str
    date: str
    author: str
    data: Data
    change: str  # description of the difference from the previous version


class History(NamedTuple):
    versions: list[Version]  # oldest first
    skipped: dict[str, str]  # commits with an unreadable dvc.lock, and the reason


def report() -> None:
    """Print the versions of the data, and changes that would lead to another version but have not run yet."""
    history = read()
    rows = [[each.commit[:SHORT], each.date, each.author, *_cells(each.data), each.change] for each in history.versions]
    last = history.versions[-1].data if history.versions else None
    try:
        current = in_folder()
    except InputError as error:
        notes = [f"This folder: {error}; take the dvc.lock of one side, or that of HEAD: git checkout HEAD dvc.lock"]
    else:
        if current is not None and (last is None or current.key != last.key):
            rows.append(["not committed", "", "", *_cells(current), describe(last, current)])
        notes = _pending(current) if current else []
    if rows:
        terminal.tell("\n".join(markdown.markdown(HEADER, rows)))
    else:
        terminal.tell("No commit has data yet: run `sentiflow repro`, then commit dvc.lock and metrics.")
    if history.skipped:
        terminal.tell(f"\nSkipped {len(history.skipped)} commits:")
        terminal.tell("\n".join(f"  {commit[:SHORT]}: {reason}" for commit, reason in history.skipped.items()))
    if hint := git.missing_history():
        terminal.tell(f"\n{hint}")
    if notes:
        terminal.tell("\n" + "\n".join(notes))


def _cells(data: Data) -> list[str]:
    labels, sizes = data.labels, data.sizes
    return [
        "?" if data.rows is None else f"{data.rows:,}",
        "?" if labels is None else ", ".join(f"{count:,} {name}" for name, count in labels.items()),
        "?" if sizes is None else " / ".join(f"{sizes.get(split, 0):,}" for split in ("train", "valid", "test")),
        data.reviews[:SHORT],
        data.source,
    ]


def _pending(current: Data) -> list[str]:
    """Changes of params.yaml and of the source since the data of this folder were made."""
    try:
        p = settings.load()
    except InputError as error:
        return [f"This folder: {error}"]
    pending = [f"{name}: {old} -> {new}" for name, old, new in changed_params(current.params, relevant(p.model_dump()))]
    try:
        is_url = isinstance(sources.SOURCES[p.download.source].content(p.download), Url)
        change = None if is_url else source_changes.changed(p)  # a list does not wait for a server
    except InputError as error:
        pending.append(str(error))
    else:
        pending += [change.in_words] if change else []
    return ["Changes that `sentiflow repro` will apply:", *(f"  {line}" for line in pending)] if pending else []


def read() -> History:
    git.require_commits()
    logged = git.ask("log", "--reverse", "--first-parent", "--date=short", f"--format=%H{FIELD}%ad{FIELD}%an", "--", str(LOCK))
    history = History([], {})
    lines = [line.split(FIELD) for line in logged.split("\n") if line]
    for (commit, date, author), found in zip(lines, _data_of([line[0] for line in lines]), strict=True):
        last = history.versions[-1].data if history.versions else None
        if isinstance(found, str):
            history.skipped[commit] = found
        elif last is None or found.key != last.key:
            history.versions.append(Version(commit, date, author, found, describe(last, found)))
    return history


def in_folder() -> Data | None:
    """Data of the working folder; None if no stage has run."""
    lock, card, proof = (file.read_bytes() if file.exists() else None for file in (LOCK, CARD, PROOF))
    return parse(lock, card, proof) if lock is not None else None


def _data_of(commits: list[str]) -> Iterator[Data | str]:
    """Data of each commit, or the reason why they are unknown."""
    contents = git.contents(f"{commit}:./{file}" for commit in commits for file in (LOCK, CARD, PROOF))
    for lock, card, proof in zip(contents, contents, contents, strict=True):
        try:
            found = parse(lock, card, proof) if lock is not None else None
        except InputError as error:
            yield str(error)
        else:
            yield found or ("it has no dvc.lock" if lock is None else "its dvc.lock has no data/reviews")


def parse(lock: bytes, card: bytes | None, proof: bytes | None) -> Data | None:
    """Data recorded in the three files; None if dvc.lock has no data yet. A file that does not match dvc.lock is ignored."""
    try:
        recorded = dvc_lock.parse(lock.decode())
        stages = [recorded[name] for name in STAGES if name in recorded]
        outputs = {out["path"]: str(out["md5"]) for stage in stages for out in stage["outs"]}
        inputs = [dependency for stage in stages for dependency in stage["deps"]]
        code = {str(each["path"]): str(each["md5"]) for each in inputs if each["path"].startswith(("src/", "stages/"))}
        params = {name: value for stage in stages for name, value in stage["params"]["params.yaml"].items()}
        if REVIEWS not in outputs:
            return None
        source = str(params["download"]["source"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(f"its {LOCK} is damaged or has merge conflict markers") from None
    card_values, split_values = (_json(text, outputs.get(str(file))) for text, file in ((card, CARD), (proof, PROOF)))
    return Data(
        reviews=outputs[REVIEWS],
        splits=outputs.get(SPLITS),
        source=source,
        rows=card_values.get("rows"),
        labels=card_values.get("rows_per_label"),
        sizes=split_values.get("rows"),
        source_sha256=card_values.get("sha256_source"),
        params=relevant(params),
        code=code,
    )


def _json(content: bytes | None, md5: str | None) -> dict[str, Any]:
    if content is None or hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        return {}
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def relevant(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that affect the data, by dotted name, without the sections of sources that are not chosen.

    >>> relevant({"seed": 7, "download": {"source": "csv", "csv": {"text": "review"}, "tsv": {"text": 0}}, "run": ["lstm"]})
    {'seed': 7, 'download.source': 'csv', 'download.csv.text': 'review'}
    """
    sections = {name: params[name] for name in ("seed", *STAGES) if name in params}
    download = sections["download"]
    sections["download"] = {
        name: value for name, value in download.items() if not isinstance(value, Mapping) or name == download["source"]
    }
    return dict(_flat(sections, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def describe(before: Data | None, after: Data) -> str:
    """Difference between two versions for the user: rows, source, parameters, code."""
    if before is None:
        return "first version"
    effects = []
    if before.rows is not None and after.rows is not None and before.rows != after.rows:
        effects.append(f"{after.rows - before.rows:+,} rows")
    elif before.reviews == after.reviews:
        effects.append("same reviews, new split")
    causes = [f"{name}: {old} -> {new}" for name, old, new in changed_params(before.params, after.params)]
    hashes = (before.source_sha256, after.source_sha256)
    if before.source == after.source and all(hashes) and len(set(hashes)) == 2:
        causes.append("new content at the source")
    if code := sorted(path for path in {*before.code, *after.code} if before.code.get(path) != after.code.get(path)):
        causes.append(f"{'code' if causes else 'only code'}: {terminal.some(code, most=3)}")
    return "; ".join([*effects, *(causes or ["no recorded input differs"])])


def changed_params(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, old and new value of each changed parameter. Settings of a source are left out if the source itself changed."""
    old, new = before.get("download.source"), after.get("download.source")
    ignored = tuple(f"download.{source}." for source in (old, new) if old != new)
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return [(name, _yaml(before.get(name)), _yaml(after.get(name))) for name in names if not name.startswith(ignored)]


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
