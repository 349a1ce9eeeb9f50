"""Check whether the source has changed since the last download, and emit an event, which starts a retraining.

The event reports a state, not a change: it is emitted again every few hours until a download has read the new content. So a
retraining that failed or was cancelled loses nothing, and a source that cannot be used starts only a few of them.
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
from flows.retries import call, retried
from sentiflow.config.params import Params
from sentiflow.data import source_changes
from sentiflow.models import settings
from sentiflow.system import stage
from sentiflow.system.errors import InputError, UnavailableError

EVENT = "sentiflow.new-data"
EMITTED = Path(".cache/watch.json")
LONGEST_HISTORY = 100  # fingerprints
TIMEOUT = 600  # seconds, retries included; until then Prefect cancels the next scheduled runs


class Emitted(BaseModel):
    """Time of the last event for each content of the source, by its fingerprint."""

    at: dict[str, AwareDatetime] = {}


@flow(name="watch", description=__doc__, timeout_seconds=TIMEOUT, persist_result=False)
def watch() -> State[Any]:
    """Checks once; ends as Completed with what it found, or Failed. Its schedule is in prefect.yaml."""
    try:
        p = settings.load()
        change: source_changes.Change | None = call(check_source, p, p)
        if change is None:
            return Completed(message="unchanged")
        if not change.settled:
            return Completed(message=f"left for the next check: {change.in_words}")
        return Completed(message=f"{report(change, p.watch.again_hours)}: {change.in_words}")
    except InputError as error:
        return Failed(message=str(error))


@retried
def check_source(p: Params) -> source_changes.Change | None:
    """How the source differs from what the last download read; None if it does not."""
    return source_changes.changed(p, settle_seconds=p.watch.settle_seconds)


def report(change: source_changes.Change, again_hours: float) -> str:
    """Emits an event of new data, unless one for the same content is recent. Returns what it did.

    Raises:
        UnavailableError: if Prefect does not accept the event.
    """
    now = datetime.now(UTC)
    times = _read_emitted().at
    # some servers give the same content a different version, and so a different fingerprint, at every request
    relevant = [times.get(change.fingerprint)] if change.certain else times.values()
    if any(at is not None and now - timedelta(hours=again_hours) < at <= now for at in relevant):
        return "new data, reported already and not downloaded yet"
    resource = checkout.event_resource()
    event = emit_event(
        event=EVENT,
        resource={"prefect.resource.id": resource, "prefect.resource.name": "source of the reviews"},
        payload={"fingerprint": change.fingerprint, "in_words": change.in_words},
        # The id depends on the last event. So Prefect drops a duplicate: of two concurrent checks, or after a check that was
        # killed before it recorded its event.
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"{EVENT} {resource} {change.fingerprint} after {times.get(change.fingerprint)}"),
    )
    if event is None:
        raise UnavailableError("Prefect does not accept events; start its server, or set PREFECT_API_URL to one that runs")
    newest = sorted((times | {change.fingerprint: now}).items(), key=lambda item: item[1])[-LONGEST_HISTORY:]
    with stage.writing(EMITTED) as [partial]:
        partial.write_text(Emitted(at=dict(newest)).model_dump_json(indent=2) + "\n", encoding="utf-8")
    return "reported new data to Prefect"


def _read_emitted() -> Emitted:
    try:
        return Emitted.model_validate_json(EMITTED.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return Emitted()  # at worst an event is emitted twice
