"""Artifacts of a retraining in Prefect's UI: progress, tables, pages and links."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows import checkout
from sentiflow.pipeline import repro
from sentiflow.pipeline.workers import Outcome
from sentiflow.registry import location

COMPARISON = Path("reports/comparison.md")
EPOCH = re.compile(r"epoch (\d+) of (\d+): (.*)")


def key(name: str) -> str:
    """Key of an artifact: small letters, digits and dashes, followed by the project's name unless that is the default.

    >>> key("train@lstm_small")
    'train-lstm-small'
    """
    return checkout.with_name(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"))


def _progress_bar(name: str, description: str) -> UUID:
    # outside of an event loop Prefect's functions are synchronous, though their type says otherwise
    return cast(UUID, create_progress_artifact(0.0, key=key(name), description=description))


class Progress:
    """Progress bar of a run: how many stages are done."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.id = _progress_bar("stages-done", f"0 of {total} stages")

    def show(self, done: Sequence[Outcome], running: Sequence[str]) -> None:
        now = f"; running: {', '.join(running)}" if running else ""
        description = f"{len(done)} of {self.total} stages{now}"
        update_progress_artifact(self.id, 100.0 * len(done) / max(1, self.total), description=description)


def with_epochs(stage: str, log: Callable[[str], None]) -> Callable[[str], None]:
    """Wraps a log function so that the epochs in a training's output also move a progress bar."""
    bar: list[UUID] = []

    def log_line(line: str) -> None:
        log(line)
        if found := EPOCH.search(line):
            if not bar:
                bar.append(_progress_bar(stage, stage))
            percent = 100.0 * int(found[1]) / int(found[2])
            update_progress_artifact(bar[0], percent, description=f"{stage}: {found[0]}")

    return log_line


def stages_table(outcomes: Sequence[Outcome]) -> None:
    """What DVC did with each stage, and how long it took."""
    table = [{"stage": each.name, "what DVC did": each.how, "seconds": round(each.seconds, 1)} for each in outcomes]
    create_table_artifact(table, key=key("stages"), description="What DVC did with each stage.")


def result_pages() -> None:
    """The current comparison and verdict."""
    for file, name in ((COMPARISON, "comparison"), (location.VERDICT, "verdict")):
        if file.exists():
            page(name, file.read_text(encoding="utf-8"), f"As in {file}.")


def mlflow_links(experiment: str, retraining: str, models: dict[str, str]) -> None:
    """Links to the runs of a retraining in MLflow's UI.

    Args:
        experiment, retraining: ids of the experiment and of the parent run.
        models: run id of each model.
    """
    server = repro.mlflow_server()
    runs = f"{server or location.ui_address()}/#/experiments/{experiment}/runs"
    description = "On the team's server." if server else "`sentiflow ui` serves it."
    create_link_artifact(f"{runs}/{retraining}", "this retraining in MLflow", key=key("mlflow"), description=description)
    links = "\n".join(f"- [{name}]({runs}/{run})" for name, run in models.items())
    page("mlflow-runs", links, "The run of each model in MLflow.")


def page(name: str, markdown: str, description: str) -> None:
    create_markdown_artifact(markdown, key=key(name), description=description)
