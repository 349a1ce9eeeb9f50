"""Which versions of the data git's history holds, from dvc.lock and the numbers committed beside it: nothing is fetched.

A version is another content of data/reviews or of data/splits. The commits are those of this branch; what was merged into it
counts where it was merged.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentiflow.system import dvc_lock, git, terminal
from sentiflow.system.errors import InputError

LOCK, CARD, PROOF = dvc_lock.FILE, Path("metrics/data_card.json"), Path("metrics/splits.json")
REVIEWS, SPLITS = "data/reviews", "data/splits"
MAKERS = ("download", "clean", "split")  # the stages that make the data
FIELD = "\x1f"


@dataclass(frozen=True)
class Data:
    """What dvc.lock and the files beside it say of the data. What is not known, as its file is missing or another's, is None."""

    reviews: str  # MD5 of data/reviews, as DVC has it
    splits: str | None
    source: str
    rows: int | None
    labels: Mapping[str, int] | None  # rows by label
    sizes: Mapping[str, int] | None  # rows by split
    content: tuple[str, str] | None  # the source's location and SHA-256
    params: Mapping[str, Any]  # by dotted name
    code: Mapping[str, str]  # MD5 by path

    @property
    def key(self) -> tuple[str, str | None]:
        return self.reviews, self.splits


@dataclass(frozen=True)
class Version:
    """A commit that brought other data."""

    commit: str
    date: str
    author: str
    data: Data
    change: str  # against the version before


@dataclass(frozen=True)
class History:
    """versions: oldest first; passed_over: commits whose dvc.lock cannot be read, and why."""

    versions: list[Version]
    passed_over: dict[str, str]


def read() -> History:
    """The versions that the commits of this branch brought."""
    git.require_commits()
    logged = git.ask("log", "--reverse", "--first-parent", "--date=short", f"--format=%H{FIELD}%ad{FIELD}%an", "--", str(LOCK))
    versions: list[Version] = []
    passed_over: dict[str, str] = {}
    lines = [line.split(FIELD) for line in logged.split("\n") if line]
    for (commit, date, author), found in zip(lines, _data_of([line[0] for line in lines]), strict=True):
        if isinstance(found, str):
            passed_over[commit] = found
        elif not versions or found.key != versions[-1].data.key:
            change = changes(versions[-1].data, found) if versions else "first version"
            versions.append(Version(commit, date, author, found, change))
    return History(versions, passed_over)


def in_folder() -> Data | None:
    """The data of the working folder; None where nothing has run."""
    lock, card, proof = (file.read_bytes() if file.exists() else None for file in (LOCK, CARD, PROOF))
    return data(lock, card, proof) if lock is not None else None


def _data_of(commits: list[str]) -> Iterator[Data | str]:
    """The data of each commit, or why it is not known."""
    contents = git.contents(f"{commit}:./{file}" for commit in commits for file in (LOCK, CARD, PROOF))
    for lock, card, proof in zip(contents, contents, contents, strict=True):
        try:
            found = data(lock, card, proof) if lock is not None else None
        except InputError as error:
            yield str(error)
        else:
            yield found or ("it has no dvc.lock" if lock is None else "its dvc.lock holds no data/reviews")


def data(lock: bytes, card: bytes | None, proof: bytes | None) -> Data | None:
    """What the files say; None if dvc.lock has no data yet. A card or proof that is not that of dvc.lock counts as missing."""
    try:
        recorded_stages = dvc_lock.parse(lock.decode())
        stages = {name: recorded_stages[name] for name in MAKERS if name in recorded_stages}
        made = {out["path"]: str(out["md5"]) for entry in stages.values() for out in entry["outs"]}
        read = [dependency for entry in stages.values() for dependency in entry["deps"]]
        code = {str(each["path"]): str(each["md5"]) for each in read if each["path"].startswith(("src/", "stages/"))}
        recorded: dict[str, Any] = {}
        for entry in stages.values():
            recorded |= entry["params"]["params.yaml"]
        if REVIEWS not in made:
            return None
        source = str(recorded["download"]["source"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(f"its {LOCK} is damaged, or holds the marks of a merge conflict") from None
    said, split = (_json(content, made.get(str(file))) for content, file in ((card, CARD), (proof, PROOF)))
    return Data(
        reviews=made[REVIEWS],
        splits=made.get(SPLITS),
        source=source,
        rows=said.get("rows"),
        labels=said.get("rows_per_label"),
        sizes=split.get("rows"),
        content=(said["location"], said["sha256_source"]) if {"location", "sha256_source"} <= set(said) else None,
        params=relevant(recorded),
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


def relevant(values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that the data follow from, by dotted name: the sections of sources that are not chosen are left out.

    >>> relevant({"seed": 7, "download": {"source": "csv", "csv": {"text": "review"}, "tsv": {"text": 0}}, "run": ["lstm"]})
    {'seed': 7, 'download.source': 'csv', 'download.csv.text': 'review'}
    """
    sections = {name: values[name] for name in ("seed", *MAKERS) if name in values}
    source = sections["download"]["source"]
    sections["download"] = {
        name: value for name, value in sections["download"].items() if not isinstance(value, Mapping) or name == source
    }
    return dict(_flat(sections, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def changes(before: Data, after: Data) -> str:
    """What differs between two versions, in words: rows, source, parameters, and code where nothing else explains it."""
    told = []
    if before.rows is not None and after.rows is not None and before.rows != after.rows:
        told.append(f"{after.rows - before.rows:+,} rows")
    elif before.reviews == after.reviews:
        told.append("same reviews, split anew")
    reasons = [f"{name}: {old} -> {new}" for name, old, new in changed_params(before.params, after.params)]
    if before.source == after.source and before.content and after.content and before.content[1] != after.content[1]:
        reasons.append("other content at the source")
    if code := sorted(path for path in {*before.code, *after.code} if before.code.get(path) != after.code.get(path)):
        reasons.append(f"{'code' if reasons else 'code alone'}: {terminal.some(code, most=3)}")
    return "; ".join([*told, *(reasons or ["no recorded input differs"])])


def changed_params(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, old and new value of the parameters that differ; those of a source that was not chosen before are not told."""
    was, now = before.get("download.source"), after.get("download.source")
    ignored = tuple(f"download.{source}." for source in (was, now) if was != now)
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    return [(name, _shown(before.get(name)), _shown(after.get(name))) for name in names if not name.startswith(ignored)]


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
