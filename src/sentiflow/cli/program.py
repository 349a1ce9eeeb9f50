"""Assembles the program and runs it."""

import typer

from sentiflow.cli import data, environment, hooks, models, predictions, remote, runs, servers, services
from sentiflow.system import entry_point, process_groups

app = typer.Typer(
    help="Turn labelled texts into a registered, explained, reproducible classifier. Run it in the project's folder.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (runs, predictions, servers, hooks):
    app.add_typer(group.app)
for name, group in {"models": models, "data": data, "remote": remote, "services": services}.items():
    app.add_typer(group.app, name=name, no_args_is_help=True)


def main() -> None:
    environment.prepare()
    process_groups.die_with_starter()
    with entry_point.handled():
        environment.use_own_code()
        app(prog_name="sentiflow")
