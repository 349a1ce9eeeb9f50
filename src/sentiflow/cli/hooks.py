"""Git's hooks."""

import typer

from sentiflow.cli.command import in_project

app = typer.Typer()


@app.command()
@in_project()
def hooks() -> None:
    """Install git's pre-push hook.

    The hook refuses a push of commits whose data the remote lacks.

    Example: sentiflow hooks
    """
    from sentiflow.sharing import hooks

    place = hooks.install()
    print(f"Wrote {place}: a push of commits whose data the remote lacks is refused (git push --no-verify pushes anyhow).")
