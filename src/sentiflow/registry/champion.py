"""The commands `sentiflow models promote`, `rollback`, `history` and `list`."""

import textwrap
from contextlib import nullcontext
from pathlib import Path

from sentiflow.models import settings
from sentiflow.registry import champion_history, judging, location, model_versions, provenance, store, verdict_report
from sentiflow.registry.test_set import HeldOut
from sentiflow.system import git, markdown, terminal
from sentiflow.system.errors import InputError

TEST_SET, TOKENS = Path("data/test_set/reviews.parquet"), Path("data/tokens")
BY_FORCE = 'to promote it anyway: sentiflow models promote {} --force --reason "..."'


@store.errors_handled()
def promote(version: str | None = None, *, force: bool = False, reason: str = "", dry_run: bool = False) -> None:
    """Makes a version champion if it passes every promotion rule of params.yaml.

    Args:
        version: its number; None for the challenger.
        force: promote it even if a rule fails; needs a reason.
        reason: for the history.
        dry_run: print what would happen, and change nothing.

    Raises:
        InputError: if it fails a rule, or cannot be judged.
    """
    p = settings.load()
    if force and not reason.strip():
        example = 'sentiflow models promote 3 --force --reason "..."'
        raise InputError(f"received --force without --reason; the history needs one: {example}")
    client = store.connect()
    with nullcontext(champion_history.history(client)) if dry_run else champion_history.changing(client) as entries:
        chosen = (
            model_versions.version(client, version) if version else model_versions.with_alias(client, model_versions.CHALLENGER)
        )
        if chosen is None:
            raise InputError(
                "there is no challenger to promote: the best model of the last run is champion already, or there was no run; "
                "see sentiflow models list, then name one (sentiflow models promote 3), or run: sentiflow repro"
            )
        number = str(chosen.version)
        model_versions.check_complete(client, chosen)
        champion = champion_history.champion(client, entries)
        if champion is not None and str(champion.version) == number:
            raise InputError(f"version {number} is the champion already; nothing was changed")
        try:
            held_out = HeldOut.read(TEST_SET, TOKENS, p.analyse)
            verdict = judging.judge(client, chosen, champion, held_out, p.promotion, p.evaluate, seed=p.seed)
        except (InputError, FileNotFoundError) as error:
            if not force:
                cause = f"{error.filename} is missing; create it: sentiflow repro" if isinstance(error, OSError) else error
                raise InputError(f"version {number} cannot be judged: {cause}; {BY_FORCE.format(number)}") from None
            model_versions.opened(client, chosen)  # force skips the rules, but not the check that it is safe to load
            terminal.tell(f"Version {number} was not judged: {error}\n")
            verdict = None
        if verdict is not None:
            terminal.tell(markdown.plain(verdict_report.as_markdown(verdict)))
            if not dry_run:
                judging.record(client, chosen, champion, verdict)
            if not verdict.holds and not force:
                raise InputError(f"{verdict_report.in_words(verdict)} It was not promoted; {BY_FORCE.format(number)}")
        how = champion_history.FORCED if force else champion_history.RULES if champion is not None else champion_history.FIRST
        words = verdict_report.in_words(verdict) if verdict is not None else "Not judged."
        why = f"{reason.strip()} ({words})" if reason.strip() else words
        if dry_run:
            terminal.tell(f"Dry run: version {number} would become champion, {how}: {why} Nothing was changed.")
            return
        changed = champion_history.change(client, entries, chosen, how, why)
    _report(changed)


def _report(changed: champion_history.Entry) -> None:
    location.VERDICT.unlink(missing_ok=True)  # it is about the previous champion
    terminal.tell(f"Champion: {changed.described}\nThe history is in {champion_history.JOURNAL}; commit it.")


@store.errors_handled()
def rollback(reason: str = "rolled back by hand", *, dry_run: bool = False) -> None:
    """Makes the previous champion champion again; each further call goes back one more.

    Raises:
        InputError: if there is no previous champion, or its version is gone.
    """
    client = store.connect()
    deleted = champion_history.deleted(champion_history.history(client))
    with nullcontext(champion_history.history(client)) if dry_run else champion_history.changing(client) as entries:
        line = champion_history.line_of_succession(entries)
        if deleted is not None and line:  # the deletion itself already made the previous champion champion again
            restored = f"version {line[-1]} {'would be' if dry_run else 'is'} champion again"
            terminal.tell(f"Version {deleted.version}, the champion, was deleted in MLflow; {restored}.")
            return
        if len(line) < 2:
            found = f"version {line[0]} is the first" if line else "there is none yet"
            raise InputError(f"there is no champion to go back to: {found}; see `sentiflow models history`")
        chosen = model_versions.version(client, line[-2])
        model_versions.opened(client, chosen)
        if dry_run:
            terminal.tell(
                f"Dry run: version {line[-2]} would be champion again instead of version {line[-1]}. Nothing was changed."
            )
            return
        changed = champion_history.change(client, entries, chosen, champion_history.ROLLBACK, reason.strip() or "no reason given")
    _report(changed)


@store.errors_handled()
def history() -> None:
    """Prints who was champion from when to when, and why."""
    client = store.connect()
    entries = champion_history.history(client)
    if difference := champion_history.disagreement(client, entries):
        terminal.tell(f"{difference}\n")
    elif not entries:
        print("No version was champion yet; `sentiflow repro` evaluates the best, `sentiflow models promote` promotes it.")
    if not entries:
        return
    table = champion_history.as_table(entries)
    numbers = [entry.version if entry.exists else f"{entry.version} (deleted)" for entry in entries]
    shown = table.drop(columns=["number", "replaced", "key", "why"]).assign(version=numbers).astype(str)
    shown["to"] = shown["to"].replace("", "deleted" if champion_history.deleted(entries) else "now")
    terminal.tell("\n".join(markdown.markdown(list(shown.columns), shown.to_numpy().tolist())))
    for entry in entries:
        terminal.tell(f"\n{entry.at}  version {entry.version}:")
        terminal.tell(textwrap.fill(entry.why, 120, initial_indent="  ", subsequent_indent="  "))


@store.errors_handled()
def versions(commit: str | None = None) -> None:
    """Prints the registered versions, or those published from the dvc.lock of a git commit."""
    client = store.connect()
    registered = shown = model_versions.versions(client)
    if commit:
        git.commit(commit)  # raises if there is no such commit
        keys = provenance.publications(commit)
        shown = [version for version in registered if version.tags.get(store.KEY_TAG) in keys]
    if not shown:
        whose = f"the dvc.lock of {commit}" if commit else store.MODEL
        terminal.tell(
            f"No version of {whose} is registered in this store; "
            "`sentiflow repro` registers, `sentiflow models rebuild` restores."
        )
        return
    named = {
        alias: model_versions.with_alias(client, alias)
        for alias in (model_versions.CHAMPION, model_versions.PREVIOUS, model_versions.CHALLENGER)
    }
    rows = []
    for version in shown:
        aliases = [alias for alias, of in named.items() if of is not None and of.version == version.version]
        uncommitted = "+" if version.tags.get(store.UNCOMMITTED_TAG) == "true" else ""
        rows.append(
            [
                str(version.version),
                version.tags.get(store.ARCHITECTURE_TAG, ""),
                ", ".join(aliases),
                version.tags.get(store.COMMIT_TAG, "")[:10] + uncommitted,
                version.tags.get(store.VERDICT_TAG, store.NOT_JUDGED),
            ]
        )
    terminal.tell("\n".join(markdown.markdown(["version", "model", "alias", "commit", "verdict"], rows)))
    for test_set, count in judging.decisions(registered).items():
        terminal.tell(f"\nTest set {test_set}: {count} {'comparison' if count == 1 else 'comparisons'} with a champion so far.")
    if any(row[3].endswith("+") for row in rows):
        print("\n+ after a commit: the code or the settings differed from it when the version was published.")
