"""Runs of the pipeline."""

from typing import Annotated

import typer

from sentiflow.cli.command import in_project

app = typer.Typer()


@app.command()
@in_project()
def repro(
    stages: Annotated[list[str] | None, typer.Argument(help="with those they depend on; without any, all")] = None,
    sample: Annotated[int | None, typer.Option(help="a trial on so many reviews, in a folder of its own")] = None,
    force: Annotated[bool, typer.Option("--force", help="run stages that are up to date as well")] = False,
    again: Annotated[str, typer.Option(hidden=True, help="the command that resumes this run, for messages")] = "sentiflow repro",
) -> None:
    """Run the stages of the pipeline that are stale.

    With --sample it is a trial, which leaves params.yaml, dvc.lock, reports and the MLflow store as they are.

    Example: sentiflow repro --sample 400
    """
    from sentiflow.pipeline import isolated_run
    from sentiflow.pipeline import repro as pipeline
    from sentiflow.system import terminal

    if sample is not None:
        if stages or force:
            raise typer.BadParameter("takes neither stages nor --force", param_hint="--sample")
        isolated_run.run_sample(sample)
        return
    pipeline.run(stages or [], force=force, again=again)
    if not stages:
        terminal.tell(pipeline.summary())


@app.command("all-models")
@in_project()
def all_models() -> None:
    """Run every model, not only those of `run:`.

    It runs in a folder of its own and writes reports/all.md and reports/all.html.

    Example: sentiflow all-models
    """
    from sentiflow.pipeline import isolated_run

    isolated_run.run_all()


@app.command()
@in_project()
def recipes() -> None:
    """Run the published recipes with their own settings.

    It writes reports/recipes.md.

    Example: sentiflow recipes
    """
    from sentiflow.pipeline import recipes as published

    if not published.run():
        raise typer.Exit(1)


@app.command()
@in_project(line=None)
def retrain(
    models: Annotated[list[str] | None, typer.Argument(help="of `run:` in params.yaml; without any, all")] = None,
    force: Annotated[bool, typer.Option("--force", help="run stages that are up to date as well")] = False,
    promote: Annotated[bool, typer.Option(help="promote the best model if it passes every rule")] = True,
) -> None:
    """Retrain if there is a reason to, and promote by the rules.

    The results are pushed to the remote, and whoever params.yaml names is notified.

    Example: sentiflow retrain lstm gru --no-promote
    """
    from flows.retrain import run_here

    if not run_here(models, force=force, promote=promote):
        raise typer.Exit(1)


@app.command()
@in_project()
def verify(
    commit: Annotated[str, typer.Argument(help="uncommitted changes are not verified")] = "HEAD",
    full: Annotated[bool, typer.Option("--full", help="every stage, not only the data and the linear models")] = False,
) -> None:
    """Reproduce a commit's results in a fresh clone, and compare.

    Example: sentiflow verify HEAD~1 --full
    """
    from sentiflow.pipeline import verify as verification

    if not verification.verify(commit, full=full):
        raise typer.Exit(1)


@app.command()
@in_project()
def plots() -> None:
    """Draw DVC's plots into dvc_plots/index.html.

    Example: sentiflow plots
    """
    from sentiflow.pipeline import plots as drawing

    print(f"wrote {drawing.draw()}")
