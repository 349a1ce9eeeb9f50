"""Who is champion, since when and why: a history in MLflow that decides, and aliases that follow it.

MLflow can neither set an alias only if nobody else did meanwhile, nor tell what it named before. So every change is first an
entry of the history: a version of the registered model `sentiflow-champions`, to which the store gives consecutive numbers, one
at a time. An entry counts only if it replaces the champion of the last one that counts: of two changes at once the first wins,
and every reader of the history sees the same. A process that dies leaves either no entry, or one that the next command applies.

A version can be deleted in MLflow, and its number given to another model. So an entry names its version by number and key, and
leads to a champion only while the store has a version with both.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sentiflow.registry import model_versions
from sentiflow.registry.model_versions import CHALLENGER, CHAMPION, PREVIOUS
from sentiflow.registry.store import KEY_TAG, MODEL, create_model, failures_told, user, write
from sentiflow.system import files, locks
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

HISTORY = "sentiflow-champions"
HISTORY_DESCRIPTION = """\
Who was champion of the model `sentiflow`, and why: each version here is one promotion or rollback, in order.
`sentiflow models promote` and `sentiflow models rollback` write it, `sentiflow models history` shows it.
To load a model use `models:/sentiflow@champion`.
"""
APPLIED_TAG = "applied"  # the aliases followed this entry
LOCK = Path(".cache/promotion.lock")
JOURNAL = Path("metrics/champions.csv")
COLUMNS = ["number", "version", "architecture", "from", "to", "how", "why", "by", "replaced", "key"]
ATTEMPTS = 10
FIRST, RULES, FORCED, ROLLBACK, BY_HAND, DELETED = "first", "rules", "forced", "rollback", "by hand", "deleted"


@dataclass(frozen=True)
class Entry:
    """One change of champion."""

    number: int
    version: str  # that became champion
    architecture: str
    key: str  # of its publication
    replaced: str  # version that was champion before; empty where there was none
    how: str  # first | rules | forced | rollback | by hand | deleted: the champion was, so the one before it returned
    why: str
    by: str  # the user
    at: str  # UTC, ISO 8601
    applied: bool  # whether the aliases followed
    exists: bool = True  # whether the store still has this version, with this key and its run

    @property
    def publication(self) -> tuple[str, str]:
        """Number and key, which together name a version although its number may have been given again."""
        return self.version, self.key

    @property
    def described(self) -> str:
        instead = f" instead of version {self.replaced}" if self.replaced else ""
        return f"version {self.version} ({self.architecture}){instead}, {self.how}: {self.why}"


def history(client: MlflowClient) -> list[Entry]:
    """The changes that count, oldest first."""
    counting: list[Entry] = []
    for entry in _entries(client):
        if entry.replaced == (counting[-1].version if counting else ""):
            counting.append(entry)
    named = {entry.publication for entry in counting}
    registered = model_versions.versions(client) if counting else []
    there = {_publication(each) for each in registered if _publication(each) in named and model_versions.has_run(client, each)}
    return [replace(entry, exists=entry.publication in there) for entry in counting]


def _publication(version: ModelVersion) -> tuple[str, str]:
    return str(version.version), version.tags.get(KEY_TAG, "")


def _entries(client: MlflowClient) -> list[Entry]:
    return [_entry(each) for each in model_versions.search(client, f"name = '{HISTORY}'")]


def _entry(kept: ModelVersion) -> Entry:
    fields = ("version", "architecture", "key", "replaced", "how", "why", "by", "at")
    values: dict[str, Any] = {name: kept.tags.get(name, "") for name in fields}
    return Entry(int(kept.version), **values, applied=APPLIED_TAG in kept.tags)


def line_of_succession(entries: Sequence[Entry]) -> list[str]:
    """The champion, last, and those that `rollback` goes back to, the nearest last; without versions that were deleted."""
    line: list[Entry] = []
    for entry in entries:
        before = [each.publication for each in line[:-1]]
        if entry.how in (ROLLBACK, DELETED) and entry.publication in before:
            line = line[: len(before) - before[::-1].index(entry.publication)]
        else:
            line.append(entry)
    return [entry.version for entry in line if entry.exists]


def current(entries: Sequence[Entry]) -> str:
    """The version that is champion by this history; empty if there is none."""
    return next(reversed(line_of_succession(entries)), "")


def champion(client: MlflowClient, entries: Sequence[Entry]) -> ModelVersion | None:
    """The same as MLflow's version; None if there is none."""
    number = current(entries)
    return model_versions.version(client, number) if number else None


def deleted(entries: Sequence[Entry]) -> Entry | None:
    """The entry of the champion, if its version was deleted and no champion has followed."""
    return entries[-1] if entries and not entries[-1].exists else None


def disagreement(client: MlflowClient, entries: Sequence[Entry]) -> str:
    """A sentence where the alias `champion` and the history name different versions; empty where they agree."""
    named, reigning, lost = model_versions.champion(client), current(entries), deleted(entries)
    number = "" if named is None else str(named.version)
    if lost is not None and number in ("", reigning):
        found = f"Version {lost.version}, the champion, was deleted in MLflow"
        if not reigning:
            return f"{found}, and no earlier champion is left: sentiflow repro evaluates the best version as the first one."
        outcome = f"version {reigning}, which was champion before it, returns"
    elif number == reigning:
        return ""
    elif not entries:
        found = f"Version {number} has the alias champion, but the history ({HISTORY} in MLflow) is gone"
        outcome = f"the history returns from {JOURNAL}, or begins again with this version,"
    elif not number:
        found = f"The alias champion was removed in MLflow, but by the history version {reigning} is champion"
        outcome = "the alias is set again"
    else:
        found = f"The alias champion names version {number}, but by the history {reigning or 'no version'} is champion"
        outcome = f"version {number} enters the history as moved by hand"
    return f"{found}; {outcome} with the next sentiflow repro, sentiflow models promote or sentiflow models rollback."


@contextmanager
def changing(client: MlflowClient) -> Iterator[list[Entry]]:
    """Gives the history, with what a killed command left put in order; within the block no other command here changes it."""
    with locks.locked(LOCK), failures_told():
        entries = settle(client)
        if len(_journal()) < len(entries):  # the command that was killed, or one in another folder, did not write it here
            write_journal(client)
        yield entries


@contextmanager
def looking(client: MlflowClient) -> Iterator[list[Entry]]:
    """Gives the history as it stands; for what changes nothing."""
    with failures_told():
        yield history(client)


def settle(client: MlflowClient) -> list[Entry]:
    """Makes the aliases follow the history, and gives the history.

    An alias that was moved in MLflow's UI is not moved back: it becomes an entry of its own. Where the champion was deleted, the
    one before it is champion again. A history that was deleted returns from the project's copy.
    """
    entries = replay_if_champion_is_there(client)
    named = model_versions.champion(client)
    newest, line = (entries[-1] if entries else None), line_of_succession(entries)
    replaced = newest.version if newest else ""
    # also where the champion has lost its run, since that leaves the alias
    is_of_newest = newest is not None and named is not None and newest.publication == _publication(named)
    if named is not None and (newest is None or newest.applied) and not is_of_newest and str(named.version) not in line[-1:]:
        why = "the alias was moved without `sentiflow models promote`" if newest else "it was champion before this history began"
        log.warning("version %s has the alias champion, which is new to the history: %s", named.version, why)
        _add(client, named, replaced, BY_HAND, why)
    elif (lost := deleted(entries)) is not None and line:
        why = f"version {lost.version} ({lost.architecture}), the champion, was deleted in MLflow"
        log.warning("%s; version %s, which was champion before it, is champion again", why, line[-1])
        _add(client, model_versions.version(client, line[-1]), replaced, DELETED, why)
    return _follow(client)


def _follow(client: MlflowClient) -> list[Entry]:
    refused: MlflowException | None = None
    for _ in range(ATTEMPTS):  # again where another machine changed the history meanwhile
        entries = history(client)
        line = line_of_succession(entries)
        if not line:
            return entries
        try:
            _point(client, entries[-1], line)
        except MlflowException as error:
            refused = error  # the store takes one of two equal writes at once; which one came first is seen by looking again
            continue
        checked, current = history(client), model_versions.champion(client)
        if checked[-1].number == entries[-1].number and current is not None and str(current.version) == line[-1]:
            return checked
    if refused is not None:
        raise refused
    raise InputError("the champion is being changed all the time by others; look at `sentiflow models history` and try again")


def _point(client: MlflowClient, newest: Entry, line: Sequence[str]) -> None:
    model_versions.set_alias(client, PREVIOUS, line[-2] if len(line) > 1 else None)
    model_versions.set_alias(client, CHAMPION, line[-1])
    if not newest.applied:
        write(client.set_model_version_tag, HISTORY, str(newest.number), APPLIED_TAG, "true")


def change(client: MlflowClient, entries: Sequence[Entry], version: ModelVersion, how: str, why: str) -> Entry:
    """Makes a version champion, within `changing`.

    Args:
        entries: the history that the change was decided on.
        how: first | rules | forced | rollback.

    Raises:
        InputError: if it is champion already.
        UnavailableError: if another change came first.
    """
    number = str(version.version)
    if number == current(entries):
        raise InputError(f"version {number} is the champion already; nothing was changed")
    added = _add(client, version, entries[-1].version if entries else "", how, why)
    after = _follow(client)
    if added not in {entry.number for entry in after}:
        first = f"version {current(after)} is champion now ({after[-1].why})"
        raise UnavailableError(f"another change came first: {first}; judge again")
    challenger = model_versions.with_alias(client, CHALLENGER)
    if challenger is not None and str(challenger.version) == number:
        model_versions.set_alias(client, CHALLENGER, None)
    write_journal(client)
    return next(entry for entry in after if entry.number == added)


def _add(
    client: MlflowClient,
    version: ModelVersion,
    replaced: str,
    how: str,
    why: str,
    *,
    by: str | None = None,
    at: str | None = None,
) -> int:
    create_model(client, HISTORY, HISTORY_DESCRIPTION)
    entry = Entry(
        number=0,
        version=str(version.version),
        architecture=version.tags.get("architecture", ""),
        key=version.tags.get(KEY_TAG, ""),
        replaced=replaced,
        how=how,
        why=why,
        by=by or user(),
        at=at or datetime.now(UTC).isoformat(timespec="seconds"),
        applied=False,
    )
    tags = {name: str(value) for name, value in asdict(entry).items() if value and name not in ("number", "applied", "exists")}
    # the number comes from the store, in one transaction with the tags
    made = client.create_model_version(
        HISTORY,
        f"models:/{MODEL}/{version.version}",
        version.run_id,
        tags=tags,
        description=f"{entry.described.removesuffix('.')}. By {entry.by}, {entry.at}.",
    )
    return int(made.version)


def as_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One line a change, oldest first: who was champion from when to when, and why."""
    until = [entry.at for entry in entries[1:]] + [""]
    lines: list[dict[str, Any]] = [
        {"number": entry.number, "version": entry.version, "architecture": entry.architecture, "from": entry.at, "to": end}
        | {"how": entry.how, "why": entry.why, "by": entry.by, "replaced": entry.replaced, "key": entry.key}
        for entry, end in zip(entries, until, strict=True)
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def journal_is_of_another_store(entries: Sequence[Entry]) -> bool:
    """Whether the history that the project keeps is not the beginning of the one that the store has."""
    kept = [(line["key"], line["from"]) for line in _journal()]
    return kept != [(entry.key, entry.at) for entry in entries][: len(kept)]


def _journal() -> list[dict[str, str]]:
    if not JOURNAL.exists():
        return []
    try:
        table = pd.read_csv(JOURNAL, dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas's parser errors, and bytes that are not UTF-8
        raise InputError(f"{JOURNAL} cannot be read ({error}); bring the committed one back: git checkout {JOURNAL}") from None
    if missing := {*COLUMNS} - {*table.columns}:
        raise InputError(
            f"{JOURNAL} lacks the columns {', '.join(sorted(missing))}; bring the committed one back: git checkout {JOURNAL}"
        )
    return [{str(name): str(value) for name, value in line.items()} for line in table.to_dict("records")]


def write_journal(client: MlflowClient) -> None:
    """Writes the history into the project, so that git can keep it for the day when the store is lost.

    One that tells of another store's champions is not written over.
    """
    entries = history(client)
    if journal_is_of_another_store(entries):
        log.warning(
            "left %s as it is: it tells of champions that this store does not know; `sentiflow models rebuild` enters them into "
            "an empty store, and without the file a new history begins",
            JOURNAL,
        )
        return
    files.write(JOURNAL, as_table(entries).to_csv(index=False, lineterminator="\n"))


def replay(client: MlflowClient) -> tuple[int, list[str]]:
    """Enters the history that the project keeps into a store that has none, as far as its versions are there again.

    Returns:
        The number of entries, and the lines that could not be entered.
    """
    if _entries(client):
        return 0, []
    entered, lost = 0, []
    champion = ""
    for line in _journal():
        named = f"{line['from']}: version {line['version']} ({line['architecture']})"
        try:
            version = model_versions.published(client, line["key"])
            if str(version.version) == champion:  # where the champion between two is lost, they may be the same
                continue
            _add(client, version, champion, line["how"], line["why"], by=line["by"], at=line["from"])
        except InputError:
            lost.append(named)
            continue
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":  # of a value that no promotion wrote, such as one of megabytes
                raise
            lost.append(named)
            continue
        champion = str(version.version)
        entered += 1
    _follow(client)
    return entered, lost


def replay_if_champion_is_there(client: MlflowClient) -> list[Entry]:
    """The same where the store has at least the version that was champion last; the history, within `changing`."""
    if entries := history(client):
        return entries
    last = next(iter(_journal()[::-1]), None)
    if last is not None:
        with contextlib.suppress(InputError):
            model_versions.published(client, last["key"])
            replay(client)
    return history(client)
