"""Commands for a team's servers: PostgreSQL, storage, MLflow, Prefect."""

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
    """Generate the secrets of the services into a new .env.

    An existing .env is never overwritten.

    Example: sentiflow services secrets
    """
    from services import team

    team.write_secrets()


@app.command()
@in_project(line="%(message)s")
def up() -> None:
    """Run all services until Ctrl-C.

    If one stops, all stop.

    Example: sentiflow services up
    """
    from services import team

    team.up()


@app.command()
@in_project(line="%(message)s")
def status() -> None:
    """Check that each service accepts members only.

    Sends requests with its password, without one and with a wrong one. The exit status is 1 if a response is not as expected.

    Example: sentiflow services status
    """
    from services import team

    team.status()


@app.command()
@in_project(line="%(message)s")
def member(
    name: Annotated[str, typer.Argument(help="Name of the account.")],
    reset: Annotated[bool, typer.Option("--reset", help="Set a new password.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the account.")] = False,
) -> None:
    """Create, reset or remove the account of a member.

    A member can retrain and promote. The settings for the member are printed once.

    Example: sentiflow services member anna
    """
    from services import team

    team.member(name, reset=reset, remove=remove)


@app.command()
@in_project(line="%(message)s")
def backup(to: Annotated[Path | None, typer.Argument(help="New folder; by default backups/TIME.")] = None) -> None:
    """Back up databases, artifacts and DVC's remote.

    The services keep running.

    Example: sentiflow services backup /mnt/backups/monday
    """
    from services import team

    team.backup(to)


@app.command()
@in_project(line="%(message)s")
def restore(source: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder written by `backup`.")]) -> None:
    """Restore a backup into a new installation.

    Then starts and checks every service.

    Example: sentiflow services restore backups/20260131-020000
    """
    from services import team

    team.restore(source)
