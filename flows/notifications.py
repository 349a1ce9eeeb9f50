"""Messages about a retraining, sent through the Prefect blocks that params.yaml names."""

import logging
from collections.abc import Sequence
from typing import cast

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def notify(log: Logger, subject: str, body: str, blocks: Sequence[str], level: int = logging.INFO) -> None:
    """Writes a message to the log of a run, and sends it through each block, such as `slack-webhook/team`.

    A block that is missing or fails is logged; it never fails a run.
    """
    log.log(level, "%s: %s", subject, body)
    for name in blocks:
        try:
            block = Block.load(name)
            if not isinstance(block, NotificationBlock):
                raise TypeError(f"{type(block).__name__} is not a notification block")
            with block.raise_on_failure():
                cast(None, block.notify(body, subject=subject))
        except Exception as error:  # each service's library has its own
            log.warning(
                "the notification through %s failed (%s: %s); check the block in Prefect's UI, or retrain.notify in params.yaml",
                name,
                type(error).__name__,
                error,
            )
