"""The root command, with all groups of commands."""

from importlib import metadata
from typing import Annotated

import typer

from sentiflow.cli import data, environment, models, predictions, remote, runs, servers, services
from sentiflow.system import entry_point, process_groups

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)
for commands in (runs.app, predictions.app, servers.app, remote.hooks_app):
    app.add_typer(commands)
for name, group in {"models": models, "data": data, "remote": remote, "services": services}.items():
    app.add_typer(group.app, name=name, no_args_is_help=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"sentiflow {metadata.version('sentiflow')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train, compare, deploy and retrain text classifiers.

    Run it in the top folder of a project.
    """


def main() -> None:
    environment.prepare()
    process_groups.die_with_starter()
    with entry_point.handled():
        environment.use_own_code()
        app(prog_name="sentiflow")
