"""History of champions in MLflow, and the aliases `champion` and `previous` that follow it.

MLflow has no compare-and-set for aliases and no history of them. So every change is first recorded as an entry: a version of the
registered model `sentiflow-champions`, to which the store assigns consecutive numbers. An entry is valid only if it replaces the
champion of the last valid one: of two simultaneous changes the first wins, for every reader. If a process dies, it leaves either
no entry, or one that the next command applies.

A deleted version's number can be assigned to another model. So an entry identifies its version by number and key.
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
from sentiflow.registry.store import ARCHITECTURE_TAG, KEY_TAG, MODEL, create_model, errors_handled, user, write
from sentiflow.system import files, locks
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

HISTORY = "sentiflow-champions"
HISTORY_DESCRIPTION = """\
History of the champions of the model `sentiflow`: each version here is one promotion or rollback, in order.
`sentiflow models promote` and `sentiflow models rollback` write it, `sentiflow models history` shows it.
To load a model use `models:/sentiflow@champion`.
"""
APPLIED_TAG = "applied"  # of an entry: the aliases were set
LOCK = Path(".cache/promotion.lock")
JOURNAL = Path("metrics/champions.csv")
COLUMNS = ["number", "version", "architecture", "from", "to", "how", "why", "by", "replaced", "key"]
ATTEMPTS = 10
FIRST, RULES, FORCED, ROLLBACK, BY_HAND, DELETED = "first", "rules", "forced", "rollback", "by hand", "deleted"


@dataclass(frozen=True)
class Entry:
    """One change of champion."""

    number: int
    version: str  # the new champion
    architecture: str
    key: str  # of its publication
    replaced: str  # the previous champion; empty if there was none
    how: str  # first | rules | forced | rollback | by hand | deleted (the champion was deleted, so the previous one returned)
    why: str
    by: str  # the user
    at: str  # UTC, ISO 8601
    applied: bool  # whether the aliases were set
    exists: bool = True  # whether the store still has this version, with this key and its run

    @property
    def publication(self) -> tuple[str, str]:
        """Number and key, which identify a version even if its number is reused."""
        return self.version, self.key

    @property
    def described(self) -> str:
        instead = f" instead of version {self.replaced}" if self.replaced else ""
        return f"version {self.version} ({self.architecture}){instead}, {self.how}: {self.why}"


def history(client: MlflowClient) -> list[Entry]:
    """The valid entries, oldest first."""
    valid: list[Entry] = []
    for entry in _entries(client):
        if entry.replaced == (valid[-1].version if valid else ""):
            valid.append(entry)
    named = {entry.publication for entry in valid}
    registered = model_versions.versions(client) if valid else []
    existing = {_publication(each) for each in registered if _publication(each) in named and model_versions.has_run(client, each)}
    return [replace(entry, exists=entry.publication in existing) for entry in valid]


def _publication(version: ModelVersion) -> tuple[str, str]:
    return str(version.version), version.tags.get(KEY_TAG, "")


def _entries(client: MlflowClient) -> list[Entry]:
    fields = ("version", "architecture", "key", "replaced", "how", "why", "by", "at")
    found = []
    for each in model_versions.search(client, f"name = '{HISTORY}'"):
        values: dict[str, Any] = {name: each.tags.get(name, "") for name in fields}
        found.append(Entry(int(each.version), **values, applied=APPLIED_TAG in each.tags))
    return found


def line_of_succession(entries: Sequence[Entry]) -> list[str]:
    """The champion, last, after the champions that `rollback` returns to, most recent last; without deleted versions."""
    line: list[Entry] = []
    for entry in entries:
        before = [each.publication for each in line[:-1]]
        if entry.how in (ROLLBACK, DELETED) and entry.publication in before:
            line = line[: len(before) - before[::-1].index(entry.publication)]
        else:
            line.append(entry)
    return [entry.version for entry in line if entry.exists]


def current(entries: Sequence[Entry]) -> str:
    """The champion according to the history; empty if there is none."""
    return next(reversed(line_of_succession(entries)), "")


def champion(client: MlflowClient, entries: Sequence[Entry]) -> ModelVersion | None:
    """The champion according to the history; None if there is none."""
    number = current(entries)
    return model_versions.version(client, number) if number else None


def deleted(entries: Sequence[Entry]) -> Entry | None:
    """The last entry, if its version was deleted."""
    return entries[-1] if entries and not entries[-1].exists else None


def disagreement(client: MlflowClient, entries: Sequence[Entry]) -> str:
    """What differs between the alias `champion` and the history, as a sentence; empty if they agree."""
    named, champion, lost = model_versions.champion(client), current(entries), deleted(entries)
    number = "" if named is None else str(named.version)
    if lost is not None and number in ("", champion):
        found = f"Version {lost.version}, the champion, was deleted in MLflow"
        if not champion:
            return f"{found}, and no earlier champion is left: sentiflow repro evaluates the best version as the first one."
        outcome = f"version {champion}, the previous champion, becomes champion again"
    elif number == champion:
        return ""
    elif not entries:
        found = f"Version {number} has the alias champion, but the history ({HISTORY} in MLflow) is gone"
        outcome = f"the history is restored from {JOURNAL}, or starts again with this version,"
    elif not number:
        found = f"The alias champion was removed in MLflow, but the champion in the history is version {champion}"
        outcome = "the alias is set again"
    else:
        found = f"The alias champion is on version {number}, but the champion in the history is {champion or 'no version'}"
        outcome = f"version {number} is added to the history as set by hand"
    return f"{found}; {outcome} with the next sentiflow repro, sentiflow models promote or sentiflow models rollback."


@contextmanager
def changing(client: MlflowClient) -> Iterator[list[Entry]]:
    """Yields the history, in agreement with the aliases, under a lock against other commands in this folder."""
    with locks.locked(LOCK), errors_handled():
        entries = settle(client)
        if len(_journal()) < len(entries):  # a command was killed before it wrote the journal, or ran in another folder
            write_journal(client)
        yield entries


def settle(client: MlflowClient) -> list[Entry]:
    """Sets the aliases according to the history, and returns the history.

    An alias that was set in MLflow's UI is kept, and added to the history. If the champion was deleted, the previous one becomes
    champion again. A deleted history is restored from the journal.
    """
    entries = restored(client)
    named = model_versions.champion(client)
    newest, line = (entries[-1] if entries else None), line_of_succession(entries)
    replaced = newest.version if newest else ""
    # a champion that has lost its run still has the alias
    is_of_newest = newest is not None and named is not None and newest.publication == _publication(named)
    if named is not None and (newest is None or newest.applied) and not is_of_newest and str(named.version) not in line[-1:]:
        why = "the alias was set without `sentiflow models promote`" if newest else "it was champion before this history began"
        log.warning("added version %s, which has the alias champion, to the history: %s", named.version, why)
        _add(client, named, replaced, BY_HAND, why)
    elif (lost := deleted(entries)) is not None and line:
        why = f"version {lost.version} ({lost.architecture}), the champion, was deleted in MLflow"
        log.warning("%s; version %s, the previous champion, is champion again", why, line[-1])
        _add(client, model_versions.version(client, line[-1]), replaced, DELETED, why)
    return _follow(client)


def _follow(client: MlflowClient) -> list[Entry]:
    refused: MlflowException | None = None
    for _ in range(ATTEMPTS):  # in case another machine changes the history at the same time
        entries = history(client)
        line = line_of_succession(entries)
        if not line:
            return entries
        try:
            model_versions.set_alias(client, PREVIOUS, line[-2] if len(line) > 1 else None)
            model_versions.set_alias(client, CHAMPION, line[-1])
            if not entries[-1].applied:
                write(client.set_model_version_tag, HISTORY, str(entries[-1].number), APPLIED_TAG, "true")
        except MlflowException as error:
            refused = error  # the store rejects one of two simultaneous writes
            continue
        checked, current = history(client), model_versions.champion(client)
        if checked[-1].number == entries[-1].number and current is not None and str(current.version) == line[-1]:
            return checked
    if refused is not None:
        raise refused
    raise InputError("other processes keep changing the champion; look at `sentiflow models history` and try again")


def change(client: MlflowClient, entries: Sequence[Entry], version: ModelVersion, how: str, why: str) -> Entry:
    """Makes a version champion; to be called within `changing`.

    Args:
        entries: the history that the decision was based on.
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
        raise UnavailableError(
            f"another change came first: version {current(after)} is champion now ({after[-1].why}); judge again"
        )
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
        architecture=version.tags.get(ARCHITECTURE_TAG, ""),
        key=version.tags.get(KEY_TAG, ""),
        replaced=replaced,
        how=how,
        why=why,
        by=by or user(),
        at=at or datetime.now(UTC).isoformat(timespec="seconds"),
        applied=False,
    )
    tags = {name: str(value) for name, value in asdict(entry).items() if value and name not in ("number", "applied", "exists")}
    # the store assigns the number in the same transaction as the tags
    created = client.create_model_version(
        HISTORY,
        f"models:/{MODEL}/{version.version}",
        version.run_id,
        tags=tags,
        description=f"{entry.described.removesuffix('.')}. By {entry.by}, {entry.at}.",
    )
    return int(created.version)


def as_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row per change, oldest first, with COLUMNS."""
    until = [entry.at for entry in entries[1:]] + [""]
    lines: list[dict[str, Any]] = [
        {"number": entry.number, "version": entry.version, "architecture": entry.architecture, "from": entry.at, "to": end}
        | {"how": entry.how, "why": entry.why, "by": entry.by, "replaced": entry.replaced, "key": entry.key}
        for entry, end in zip(entries, until, strict=True)
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def journal_is_of_another_store(entries: Sequence[Entry]) -> bool:
    """Whether the journal is not the beginning of the history in the store."""
    kept = [(line["key"], line["from"]) for line in _journal()]
    return kept != [(entry.key, entry.at) for entry in entries][: len(kept)]


def _journal() -> list[dict[str, str]]:
    if not JOURNAL.exists():
        return []
    try:
        table = pd.read_csv(JOURNAL, dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas's parser errors, and bytes that are not UTF-8
        raise InputError(f"{JOURNAL} cannot be read ({error}); restore the committed one: git checkout {JOURNAL}") from None
    if missing := {*COLUMNS} - {*table.columns}:
        raise InputError(
            f"{JOURNAL} lacks the columns {', '.join(sorted(missing))}; restore the committed one: git checkout {JOURNAL}"
        )
    return [{str(name): str(value) for name, value in line.items()} for line in table.to_dict("records")]


def write_journal(client: MlflowClient) -> None:
    """Writes the history to the journal, from which it can be restored; a journal of another store is left as it is."""
    entries = history(client)
    if journal_is_of_another_store(entries):
        log.warning(
            "left %s as it is: its champions are missing from this store; `sentiflow models rebuild` restores them in "
            "an empty store, and without the file a new history begins",
            JOURNAL,
        )
        return
    files.write(JOURNAL, as_table(entries).to_csv(index=False, lineterminator="\n"))


def replay(client: MlflowClient) -> tuple[int, list[str]]:
    """Restores the history from the journal, if the store has none.

    Returns:
        The number of restored entries, and the rows that could not be restored because their version is missing.
    """
    if _entries(client):
        return 0, []
    entered, lost = 0, []
    champion = ""
    for line in _journal():
        named = f"{line['from']}: version {line['version']} ({line['architecture']})"
        try:
            version = model_versions.published(client, line["key"])
            if str(version.version) == champion:  # possible if the champion in between is missing
                continue
            _add(client, version, champion, line["how"], line["why"], by=line["by"], at=line["from"])
        except (InputError, MlflowException) as error:
            # MLflow rejects values that no promotion wrote, such as megabytes of text
            if isinstance(error, MlflowException) and error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            lost.append(named)
            continue
        champion = str(version.version)
        entered += 1
    _follow(client)
    return entered, lost


def restored(client: MlflowClient) -> list[Entry]:
    """The history; if the store has none, but the last champion of the journal, the history is restored first."""
    if entries := history(client):
        return entries
    last = next(iter(_journal()[::-1]), None)
    if last is not None:
        with contextlib.suppress(InputError):
            model_versions.published(client, last["key"])
            replay(client)
    return history(client)
