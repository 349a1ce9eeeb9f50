"""What people see of a retraining: artifacts in Prefect's UI, and messages through the blocks that params.yaml names."""

import logging
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
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block

from flows import checkout
from sentiflow.pipeline import repro
from sentiflow.pipeline.workers import Outcome
from sentiflow.registry import location

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

COMPARISON, VERDICT = Path("reports/comparison.md"), Path(".cache/verdict.md")
EPOCH = re.compile(r"epoch (\d+) of (\d+): (.*)")


def key(name: str) -> str:
    """A name as Prefect's artifacts allow it: small letters, digits and dashes; with the project's name unless it is the default.

    >>> key("train@lstm_small")
    'train-lstm-small'
    """
    return checkout.with_name(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"))


def _bar(name: str, about: str) -> UUID:
    # Prefect's functions wait where there is no event loop, and say that they may not
    return cast(UUID, create_progress_artifact(0.0, key=key(name), description=about))


class Progress:
    """How many stages of a run are done; a bar in Prefect's UI."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.id = _bar("stages-done", f"0 of {total} stages")

    def show(self, done: Sequence[Outcome], running: Sequence[str]) -> None:
        at_work = f"; at work: {', '.join(running)}" if running else ""
        update_progress_artifact(
            self.id, 100.0 * len(done) / max(1, self.total), description=f"{len(done)} of {self.total} stages{at_work}"
        )


def epochs(stage: str, told: Callable[[str], None]) -> Callable[[str], None]:
    """Hands on each line of a training, and keeps a bar of its epochs in Prefect's UI."""
    bar: list[UUID] = []

    def tell(line: str) -> None:
        told(line)
        if found := EPOCH.search(line):
            done, total = int(found[1]), int(found[2])
            if not bar:
                bar.append(_bar(stage, stage))
            update_progress_artifact(bar[0], 100.0 * done / total, description=f"{stage}: {found[0]}")

    return tell


def stages_table(outcomes: Sequence[Outcome]) -> None:
    """Which stage ran, was restored or was fresh, and how long it took."""
    table = [{"stage": each.name, "what DVC did": each.how, "seconds": round(each.seconds, 1)} for each in outcomes]
    create_table_artifact(table, key=key("stages"), description="What DVC did with each stage.")


def pages() -> None:
    """The comparison and the verdict, as they stand after the run."""
    for page, about in ((COMPARISON, "comparison"), (VERDICT, "verdict")):
        if page.exists():
            create_markdown_artifact(page.read_text(encoding="utf-8"), key=key(about), description=f"As in {page}.")


def runs(experiment: str, retraining: str, of_models: dict[str, str]) -> None:
    """Links to the runs of a retraining in MLflow's UI.

    Args:
        experiment, retraining: ids of the experiment and of the run that holds the others.
        of_models: id of each model's run.
    """
    server = repro.mlflow_server()
    at = f"{server or location.ui_address()}/#/experiments/{experiment}/runs"
    about = "On the team's server." if server else "`sentiflow ui` serves it."
    create_link_artifact(f"{at}/{retraining}", "this retraining in MLflow", key=key("mlflow"), description=about)
    lines = [f"- [{name}]({at}/{run})" for name, run in of_models.items()]
    create_markdown_artifact("\n".join(lines), key=key("mlflow-runs"), description="The run of each model in MLflow.")


def page(name: str, markdown: str, about: str) -> None:
    create_markdown_artifact(markdown, key=key(name), description=about)


def notify(log: Logger, subject: str, body: str, blocks: Sequence[str], level: int = logging.INFO) -> None:
    """Writes a message to the log of a run and hands it to each block, such as `slack-webhook/team`.

    A block that is not there or does not answer is said in the log; it never fails a run.
    """
    log.log(level, "%s: %s", subject, body)
    for name in blocks:
        try:
            block = Block.load(name)
            if not isinstance(block, NotificationBlock):
                raise TypeError(f"{type(block).__name__} is no block that notifies")
            with block.raise_on_failure():
                cast(None, block.notify(body, subject=subject))
        except Exception as error:  # whatever a service's library raises
            log.warning(
                "%s could not be told (%s: %s); look at the block in Prefect's UI, or at retrain.notify in params.yaml",
                name,
                type(error).__name__,
                error,
            )
