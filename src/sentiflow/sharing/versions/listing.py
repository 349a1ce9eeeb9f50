"""List the versions of the data: which commit of this branch brought other reviews or another split, and what changed.

Everything stands in git: nothing is fetched. The last row is what this folder holds, where that is not committed.
"""

from collections.abc import Mapping

from sentiflow.data import source_changes, sources
from sentiflow.data.sources.source import Url
from sentiflow.models import settings
from sentiflow.sharing.versions import history
from sentiflow.sharing.versions.history import Data
from sentiflow.system import git, markdown, terminal
from sentiflow.system.errors import InputError

HEADER = ["commit", "date", "author", "rows", "labels", "train / valid / test", "hash", "source", "what changed"]
NOT_COMMITTED = "not committed"
SHORT = 10  # digits of a hash
UNKNOWN = "?"


def report() -> None:
    """Prints the versions of the data over git's history, and what would change them but has not run yet."""
    found = history.read()
    rows = [[each.commit[:SHORT], each.date, each.author, *_cells(each.data), each.change] for each in found.versions]
    last = found.versions[-1].data if found.versions else None
    try:
        here = history.in_folder()
    except InputError as error:
        here, told = None, [f"This folder: {error}; take one side's dvc.lock, or bring HEAD's back: git checkout HEAD dvc.lock"]
    else:
        if here is not None and (last is None or here.key != last.key):
            change = history.changes(last, here) if last else "first version"
            rows.append([NOT_COMMITTED, "", "", *_cells(here), change])
        told = _pending(here)
    if rows:
        terminal.tell("\n".join(markdown.markdown(HEADER, rows)))
    else:
        terminal.tell("No commit holds data yet: run `sentiflow repro` and commit dvc.lock with metrics.")
    if found.passed_over:
        terminal.tell(f"\n{len(found.passed_over)} commits are left out:")
        terminal.tell("\n".join(f"  {commit[:SHORT]}: {reason}" for commit, reason in found.passed_over.items()))
    if hint := git.missing_history():
        terminal.tell(f"\n{hint}")
    if told:
        terminal.tell("\n" + "\n".join(told))


def _cells(data: Data) -> list[str]:
    sizes = data.sizes
    return [
        UNKNOWN if data.rows is None else f"{data.rows:,}",
        _counts(data.labels),
        UNKNOWN if sizes is None else " / ".join(f"{sizes.get(split, 0):,}" for split in ("train", "valid", "test")),
        data.reviews[:SHORT],
        data.source,
    ]


def _counts(counts: Mapping[str, int] | None) -> str:
    return UNKNOWN if counts is None else ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _pending(here: Data | None) -> list[str]:
    """What would make other data than this folder's dvc.lock records, and has not run yet."""
    if here is None:
        return []
    try:
        p = settings.load()
    except InputError as error:
        return [f"This folder: {error}"]
    wanted = history.relevant(p.model_dump())
    told = [f"{name}: {old} -> {new}" for name, old, new in history.changed_params(here.params, wanted)]
    try:
        is_url = isinstance(sources.SOURCES[p.download.source].content(p.download), Url)
        change = None if is_url else source_changes.changed(p)  # a list does not wait for a server
    except InputError as error:
        told.append(str(error))
    else:
        told += [change.in_words] if change else []
    return ["Not run yet, `sentiflow repro` does:", *(f"  {line}" for line in told)] if told else []
