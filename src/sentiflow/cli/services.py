"""Servers of a team: PostgreSQL, MLflow, Prefect and storage."""

import os
from pathlib import Path
from typing import Annotated

import typer

from sentiflow.cli.command import in_project

app = typer.Typer(help="Run a team's servers: PostgreSQL, storage, MLflow, Prefect.")


@app.callback()
def private_files() -> None:
    os.umask(0o077)


@app.command()
@in_project(line="%(message)s")
def secrets() -> None:
    """Write a new .env with generated secrets.

    An existing one is never overwritten.

    Example: sentiflow services secrets
    """
    from services import team

    team.write_secrets()


@app.command()
@in_project(line="%(message)s")
def up() -> None:
    """Run all services until Ctrl-C.

    When one stops, all stop.

    Example: sentiflow services up
    """
    from services import team

    team.up()


@app.command()
@in_project(line="%(message)s")
def status() -> None:
    """Check that each service answers members only.

    Each is asked with its password, without one and with a wrong one; the exit status is 1 if one answers otherwise.

    Example: sentiflow services status
    """
    from services import team

    team.status()


@app.command()
@in_project(line="%(message)s")
def member(
    name: Annotated[str, typer.Argument(help="of the account")],
    reset: Annotated[bool, typer.Option("--reset", help="set another password")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="remove the account")] = False,
) -> None:
    """Create, reset or remove an account.

    It may retrain and promote. What its owner needs is printed once.

    Example: sentiflow services member anna
    """
    from services import team

    team.member(name, reset=reset, remove=remove)


@app.command()
@in_project(line="%(message)s")
def backup(to: Annotated[Path | None, typer.Argument(help="a new folder; by default backups/TIME")] = None) -> None:
    """Back up databases, artifacts and DVC's remote.

    The services go on meanwhile.

    Example: sentiflow services backup /mnt/backups/monday
    """
    from services import team

    team.backup(to)


@app.command()
@in_project(line="%(message)s")
def restore(source: Annotated[Path, typer.Argument(metavar="BACKUP", help="a folder that `backup` wrote")]) -> None:
    """Restore a backup where there is nothing yet.

    Every service is then started and checked.

    Example: sentiflow services restore backups/20260131-020000
    """
    from services import team

    team.restore(source)
