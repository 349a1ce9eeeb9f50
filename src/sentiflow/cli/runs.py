"""Commands that run the pipeline."""

from typing import Annotated

import typer

from sentiflow.cli.command import in_project

app = typer.Typer()
Force = Annotated[bool, typer.Option("--force", "-f", help="Run stages that are up to date too.")]


@app.command()
@in_project()
def repro(
    stages: Annotated[list[str] | None, typer.Argument(help="Stages to run, with their dependencies; by default all.")] = None,
    sample: Annotated[int | None, typer.Option(help="Trial run on this many reviews, in a folder of its own.")] = None,
    force: Force = False,
    again: Annotated[str, typer.Option(hidden=True, help="Command that resumes this run, for messages.")] = "sentiflow repro",
) -> None:
    """Run the stale stages of the pipeline.

    A run with --sample leaves params.yaml, dvc.lock, the reports and the MLflow store unchanged.

    Example: sentiflow repro --sample 400
    """
    from sentiflow.pipeline import isolated_run
    from sentiflow.pipeline import repro as pipeline
    from sentiflow.system import terminal

    if sample is not None:
        if stages or force:
            raise typer.BadParameter("cannot be combined with stages or --force", param_hint="--sample")
        isolated_run.run_sample(sample)
        return
    pipeline.run(stages or [], force=force, again=again)
    if not stages:
        terminal.tell(pipeline.summary())


@app.command("all-models")
@in_project()
def all_models() -> None:
    """Run every model of params.yaml, not only those in `run:`.

    Runs in a folder of its own, and writes reports/all.md and reports/all.html.

    Example: sentiflow all-models
    """
    from sentiflow.pipeline import isolated_run

    isolated_run.run_all()


@app.command()
@in_project()
def recipes() -> None:
    """Run the published recipes with their own settings.

    Writes reports/recipes.md.

    Example: sentiflow recipes
    """
    from sentiflow.pipeline import recipes as published

    if not published.run():
        raise typer.Exit(1)


@app.command()
@in_project(line=None)
def retrain(
    models: Annotated[list[str] | None, typer.Argument(help="Models in `run:` of params.yaml; by default all.")] = None,
    force: Force = False,
    promote: Annotated[bool, typer.Option(help="Promote the best model if it passes every rule.")] = True,
) -> None:
    """Retrain and promote, if there is a reason to retrain.

    Pushes the results to the remote, and sends the notification that params.yaml configures.

    Example: sentiflow retrain lstm gru --no-promote
    """
    from flows.retrain import run_here

    if not run_here(models, force=force, promote=promote):
        raise typer.Exit(1)


@app.command()
@in_project()
def verify(
    commit: Annotated[str, typer.Argument(help="Commit to verify; uncommitted changes are ignored.")] = "HEAD",
    full: Annotated[bool, typer.Option("--full", help="Run every stage, not only data and linear models.")] = False,
) -> None:
    """Reproduce the results of a commit in a fresh clone.

    The exit status is 1 if they differ.

    Example: sentiflow verify HEAD~1 --full
    """
    from sentiflow.pipeline import verify as verification

    if not verification.verify(commit, full=full):
        raise typer.Exit(1)


@app.command()
@in_project()
def plots() -> None:
    """Render DVC's plots to dvc_plots/index.html.

    Example: sentiflow plots
    """
    from sentiflow.pipeline import plots as drawing

    print(f"wrote {drawing.draw()}")
