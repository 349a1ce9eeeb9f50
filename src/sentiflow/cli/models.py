"""Commands for the registered versions of the model."""

from typing import Annotated

import typer

from sentiflow.cli.command import in_project

app = typer.Typer(help="List, promote and roll back registered models.")
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, without changing anything.")]


@app.command("list")
@in_project(computes=True)
def list_versions(
    commit: Annotated[str | None, typer.Option(help="Only versions with the results in the dvc.lock of this commit.")] = None,
) -> None:
    """List the registered versions.

    Example: sentiflow models list --commit HEAD
    """
    from sentiflow.registry import champion

    champion.versions(commit)


@app.command()
@in_project(computes=True)
def promote(
    version: Annotated[str | None, typer.Argument(help="Version; by default the challenger, the best of the last run.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Promote even if a rule fails; requires --reason.")] = False,
    reason: Annotated[str, typer.Option(help="Reason to record in the history.")] = "",
    dry_run: DryRun = False,
) -> None:
    """Promote a version to champion if it passes every rule.

    The rules are those of `promotion` in params.yaml.

    Example: sentiflow models promote 3 --force --reason "the labels were wrong"
    """
    from sentiflow.registry import champion, decision

    try:
        champion.promote(version, force=force, reason=reason, dry_run=dry_run)
    finally:  # a rejected version has a new verdict, too
        if not dry_run:
            decision.write()


@app.command()
@in_project(computes=True)
def rollback(
    reason: Annotated[str, typer.Option(help="Reason to record in the history.")] = "rolled back by hand",
    dry_run: DryRun = False,
) -> None:
    """Restore the previous champion.

    Another rollback restores the one before it.

    Example: sentiflow models rollback --reason "too slow"
    """
    from sentiflow.registry import champion, decision

    champion.rollback(reason, dry_run=dry_run)
    if not dry_run:
        decision.write()


@app.command()
@in_project(computes=True)
def history() -> None:
    """Show which version was champion when, and why.

    Example: sentiflow models history
    """
    from sentiflow.registry import champion

    champion.history()


@app.command()
@in_project()
def rebuild(dry_run: DryRun = False) -> None:
    """Rebuild an empty MLflow store from git and DVC.

    Publishes the results of every commit and the history of champions again.

    Example: sentiflow models rebuild --dry-run
    """
    from sentiflow.pipeline import rebuild as rebuilding

    if dry_run:
        rebuilding.show()
    else:
        rebuilding.rebuild()
