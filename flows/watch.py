"""Look whether the source has other reviews than the last download read, and tell Prefect, whose automation then retrains.

It tells what is, not what happened: as long as no download has read what is there now, the same is told again after some
hours, so that a retraining that was cancelled or failed loses nothing, and a source that cannot be used starts few of them.
"""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed, Failed
from pydantic import AwareDatetime, BaseModel, ValidationError

from flows import checkout
from flows.attempts import done, tried_again
from sentiflow.config.params import Params
from sentiflow.data import source_changes
from sentiflow.models import settings
from sentiflow.system import stage
from sentiflow.system.errors import InputError, UnavailableError

EVENT = "sentiflow.new-data"
TOLD = Path(".cache/watch.json")
KEPT = 100  # contents of which is remembered when they were told
LONGEST_LOOK = 600  # seconds, whatever the attempts; while one look is at work, Prefect cancels the next ones


class Told(BaseModel):
    """When each content of the source was told last, by its fingerprint."""

    at: dict[str, AwareDatetime] = {}

    def is_recent(self, fingerprint: str | None, now: datetime, again: timedelta) -> bool:
        """Whether this content, or any, was told so short a while ago; what lies ahead was told by a wrong clock."""
        times = self.at.values() if fingerprint is None else filter(None, [self.at.get(fingerprint)])
        return any(now - again < at <= now for at in times)

    def and_now(self, fingerprint: str, now: datetime) -> "Told":
        newest = sorted((self.at | {fingerprint: now}).items(), key=lambda item: item[1])[-KEPT:]
        return Told(at=dict(newest))


@flow(name="watch", description=__doc__, timeout_seconds=LONGEST_LOOK, persist_result=False)
def watch() -> State[Any]:
    """Looks once, and ends as Completed, saying what it saw, or Failed. How often it looks is said in prefect.yaml."""
    try:
        p = settings.load()
        change: source_changes.Change | None = done(look, p, p)
        if change is None:
            return Completed(message="unchanged")
        if not change.settled:
            return Completed(message=f"left for the next look: {change.in_words}")
        return Completed(message=f"{tell(change, p.watch.again_hours)}: {change.in_words}")
    except InputError as error:
        return Failed(message=str(error))


@tried_again
def look(p: Params) -> source_changes.Change | None:
    """How the source differs from what the last download read; None if it does not."""
    return source_changes.changed(p, settle_seconds=p.watch.settle_seconds)


def tell(change: source_changes.Change, again_hours: float) -> str:
    """Tells Prefect of new data, unless the same was told a short while ago; in words, what it did.

    Raises:
        UnavailableError: if Prefect does not take the event.
    """
    now = datetime.now(UTC)
    told = _told()
    # Where a server calls the same bytes another version at every look, every look brings another fingerprint.
    if told.is_recent(change.fingerprint if change.certain else None, now, timedelta(hours=again_hours)):
        return "new data, told already and not read yet"
    resource = checkout.event_resource()
    event = emit_event(
        event=EVENT,
        resource={"prefect.resource.id": resource, "prefect.resource.name": "source of the reviews"},
        payload={"fingerprint": change.fingerprint, "in_words": change.in_words},
        # One id for one telling: of two that look at once, or where this dies before it has noted that it told, Prefect drops
        # the second.
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"{EVENT} {resource} {change.fingerprint} after {told.at.get(change.fingerprint)}"),
    )
    if event is None:
        raise UnavailableError("Prefect does not take events; start its server, or set PREFECT_API_URL to one that runs")
    with stage.writing(TOLD) as [partial]:
        partial.write_text(told.and_now(change.fingerprint, now).model_dump_json(indent=2) + "\n", encoding="utf-8")
    return "told Prefect of new data"


def _told() -> Told:
    try:
        return Told.model_validate_json(TOLD.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return Told()  # at worst the same is told once more
