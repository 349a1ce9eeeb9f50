"""The report with the promotion verdict on top: which version to ship, and why.

The report itself is an output of a DVC stage and must not depend on MLflow's store or on measured times, so the verdict is
inserted into a copy of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sentiflow.reporting import page

BEGIN, END = "<!-- decision -->", "<!-- /decision -->"


@dataclass(frozen=True)
class Version:
    """A registered version, as text."""

    role: str  # champion | challenger
    model: str
    version: str
    commit: str
    registered: str  # date
    status: str  # since when and why it is champion, or what its verdict says


@dataclass(frozen=True)
class Rule:
    """The outcome of a promotion rule."""

    name: str
    passes: bool | None  # None: not checked
    required: str
    found: str


@dataclass(frozen=True)
class Row:
    """One model in the table of models; None is unknown."""

    name: str
    accuracy: float
    low: float  # ends of the interval of the accuracy
    high: float
    calibration_error: float
    has_page: bool = True
    version: str = ""
    role: str = ""
    latency_ms: float | None = None
    size_mb: float | None = None
    seconds: float | None = None  # of training


@dataclass(frozen=True)
class Decision:
    headline: str
    reason: str
    versions: Sequence[Version]
    judged: str  # caption of the table of rules
    rules: Sequence[Rule]
    models: Sequence[Row]
    store: str  # address without credentials
    written: str  # date


def insert(report: str, decision: Decision) -> str:
    """The report with the verdict in place of the text that stands for it."""
    before, _, rest = report.partition(BEGIN)
    after = rest.partition(END)[2]
    return before + page.environment().get_template("decision.html.jinja").render(decision=decision) + after
