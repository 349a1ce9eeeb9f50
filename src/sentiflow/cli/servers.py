"""Commands that run a user's servers on this machine, until Ctrl-C."""

from typing import Annotated

import typer

from sentiflow.cli.command import in_project

app = typer.Typer()
PrefectPort = Annotated[int | None, typer.Option(min=1, max=65535, help="Prefect's port; by default 4200 or the next free.")]


@app.command()
@in_project(computes=True)
def serve(
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port on 127.0.0.1; 0 for any free port.")] = 8000,
) -> None:
    """Serve the champion over HTTP.

    Example: sentiflow serve --port 8001
    """
    from sentiflow.serving import server

    server.serve(port)


@app.command()
@in_project(line="%(message)s")
def ui(
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=1, max=65535, help="MLflow's port; by default 5000 or the next free.")
    ] = None,
    prefect_port: PrefectPort = None,
) -> None:
    """Serve the UIs of MLflow and Prefect.

    Prints their addresses instead if servers of a team are configured.

    Example: sentiflow ui --port 5001 --prefect-port 4201
    """
    from flows import local_servers

    local_servers.ui(port, prefect_port)


@app.command()
@in_project(line="%(message)s")
def schedule(
    prefect_port: PrefectPort = None,
    take_over: Annotated[bool, typer.Option("--take-over", help="Take the deployments over from another checkout.")] = False,
) -> None:
    """Serve the schedule of prefect.yaml.

    Runs a worker, and Prefect's server unless one is already running.

    Example: sentiflow schedule --take-over
    """
    from flows import local_servers

    local_servers.schedule(prefect_port, take_over=take_over)
