"""Servers of one user, on this machine; each runs until Ctrl-C."""

from typing import Annotated

import typer

from sentiflow.cli.command import in_project

app = typer.Typer()
PrefectPort = Annotated[int | None, typer.Option(min=1, max=65535, help="by default 4200, or the next free one")]


@app.command()
@in_project(computes=True)
def serve(port: Annotated[int, typer.Option(min=0, max=65535, help="of 127.0.0.1; 0 takes any that is free")] = 8000) -> None:
    """Serve the champion over HTTP.

    Example: sentiflow serve --port 8001
    """
    from sentiflow.serving import server

    server.serve(port)


@app.command()
@in_project(line="%(message)s")
def ui(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="by default 5000, or the next free one")] = None,
    prefect_port: PrefectPort = None,
) -> None:
    """Serve MLflow's UI and Prefect's.

    Where a team's servers have them already, it prints their addresses.

    Example: sentiflow ui --port 5001 --prefect-port 4201
    """
    from flows import local_servers

    local_servers.ui(port, prefect_port)


@app.command()
@in_project(line="%(message)s")
def schedule(
    prefect_port: PrefectPort = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="where another checkout serves the deployments, move them here")
    ] = False,
) -> None:
    """Retrain when prefect.yaml says so.

    It runs a worker, and Prefect's server unless one answers already.

    Example: sentiflow schedule --take-over
    """
    from flows import local_servers

    local_servers.schedule(prefect_port, take_over=take_over)
