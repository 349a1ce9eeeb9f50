"""Sources of reviews: `download.source: NAME` in params.yaml is the module NAME here.

To add a source, write its module with SOURCE, and its section in config/params.py and params.yaml.
"""

import ast
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import get_args

import pandas as pd
from tqdm import tqdm

from sentiflow.config.params import Download
from sentiflow.data import normal_form
from sentiflow.data.sources.rows import EMPTY, UNKNOWN_LABEL, Found, Origin, by_tidied, excerpt, flaw, tidied
from sentiflow.data.sources.source import Source
from sentiflow.system import terminal
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

SOURCES: dict[str, Source] = {
    name: import_module(f"{__name__}.{name}").SOURCE for name in get_args(Download.model_fields["source"].annotation)
}

FEWEST = 10  # rows per label
TYPES = {"text": "str", "label": "str", "source": "str", "split": "str", "rating": "Int8", "film": "str", "group": "str"}


@dataclass(frozen=True)
class Corpus:
    """Labelled reviews and their origin.

    reviews: row, text, label, source, split, rating, film, group; the last four are empty if the source does not have them.
    rejects: source (file), line, reason, excerpt of each rejected row.
    excluded: rows excluded by their label, which is mapped to null.
    classes: all classes of the source, in the order of the labels mapping.
    """

    reviews: pd.DataFrame
    rejects: pd.DataFrame
    excluded: Mapping[str, int]
    classes: list[str]
    location: str
    sha256: str


def load(p: Download, partial_dir: Path, *, seed: int) -> Corpus:
    """Reads the source selected in params.yaml.

    Args:
        partial_dir: folder for downloads, and for rejects.csv if too many rows are rejected.

    Raises:
        InputError: if the source cannot be read, too many rows are rejected, or too few are left.
    """
    origin = SOURCES[p.source].find(p, partial_dir)
    reviews, rejects, excluded = sort(origin, p.max_characters)
    _require_few_rejects(p, origin, reviews, rejects, partial_dir / "rejects.csv")
    if p.sample is not None:
        reviews = sample(reviews, p.sample, seed)
    classes = list(dict.fromkeys(name for name in origin.labels.values() if name is not None))
    _require_enough(reviews, classes, origin.location, p.sample)
    return Corpus(reviews, rejects, excluded, classes, origin.location, origin.sha256)


def sort(origin: Origin, max_characters: int) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """The reviews, rejects and excluded rows of a source, as in Corpus; every row is in one of them."""
    kept: list[Found] = []
    rejected: list[tuple[str, int, str, str]] = []
    excluded: Counter[str] = Counter()
    labels = by_tidied(origin.labels)
    classes = {label: name for label, name in labels.items() if name is not None}
    for row in tqdm(origin.found, desc="reading", unit=" rows", disable=None, delay=2):
        label = tidied(row.label)
        if row.flaw is None and label in labels and label not in classes:
            excluded[label] += 1
            continue
        reason = flaw(row, labels, max_characters)
        text = row.text if reason else normal_form.normalised(row.text)
        if reason is None and not text.strip():
            reason = EMPTY
        if reason is None:
            kept.append(row._replace(text=text, label=classes[label]))
        else:
            rejected.append((row.file, row.line, reason, excerpt(row.text)))
    reviews = pd.DataFrame(kept, columns=list(Found._fields))[list(TYPES)].astype(TYPES)
    reviews.insert(0, "row", pd.RangeIndex(len(reviews)).to_numpy("int64"))
    rejects = pd.DataFrame(rejected, columns=["source", "line", "reason", "excerpt"]).astype({"line": "int64"})
    return reviews, rejects, dict(sorted(excluded.items()))


def sample(reviews: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """At most `count` random rows, balanced over label and split, in their original order and renumbered.

    Each group of label and split contributes one row in turn, so a small group contributes all its rows.
    """
    shuffled = reviews.sample(frac=1, random_state=seed)
    turn = shuffled.groupby(["label", "split"], dropna=False).cumcount()
    drawn = turn.sort_values(kind="stable").index[:count].sort_values()
    return reviews.loc[drawn].assign(row=range(len(drawn))).reset_index(drop=True)


def _require_few_rejects(p: Download, origin: Origin, reviews: pd.DataFrame, rejects: pd.DataFrame, listing: Path) -> None:
    listing.unlink(missing_ok=True)
    if rejects.empty:
        return
    rows = len(reviews) + len(rejects)
    fraction = len(rejects) / rows
    summary = f"{len(rejects):,} of the {rows:,} rows of {origin.location} are invalid, {fraction:.2%}"
    reasons = _most_common_reasons(rejects)
    if fraction <= p.max_rejected:
        log.warning("%s; rejects.csv lists them:\n%s", summary, reasons)
        return
    listing.parent.mkdir(parents=True, exist_ok=True)
    rejects.to_csv(listing, index=False, lineterminator="\n")
    reasons = "\n".join([reasons, *_labels_to_set(p, origin, reviews, rejects)])
    raise InputError(
        f"{summary}; {p.max_rejected:.2%} are allowed (download.max_rejected). Correct the file or its settings in params.yaml, "
        f"or raise the limit; {listing} lists every row. Most common reasons:\n{reasons}"
    )


def _labels_to_set(p: Download, origin: Origin, reviews: pd.DataFrame, rejects: pd.DataFrame) -> list[str]:
    """If labels are not mapped: lines for params.yaml that map every label of the file."""
    unmapped = rejects["reason"].str.extract(f"^{UNKNOWN_LABEL}: (.+) is not mapped")[0].dropna().value_counts()
    if unmapped.empty:
        return []
    key = f"download.{p.source}"
    if len(unmapped) > (len(reviews) + len(rejects)) / FEWEST:  # too many for labels with FEWEST rows each
        return [f"  {len(unmapped):,} distinct labels are not mapped: is {key}.label in params.yaml the label column?"]
    labels = {label: name for label, name in origin.labels.items() if name is None or name in set(reviews["label"])}
    lower = {tidied(label).lower(): name for label, name in labels.items()}  # labels that differ only in case have the same class
    found = map(ast.literal_eval, unmapped.index[~unmapped.index.str.endswith("...")])
    labels |= {label: lower.get(label.lower(), label) for label in found}
    lines = [
        f"      {json.dumps(label, ensure_ascii=False)}: {json.dumps(name, ensure_ascii=False)}" for label, name in labels.items()
    ]
    return [
        f"  Set the labels of {key} in params.yaml: each to its class, or to null to exclude its rows. All labels of the file:",
        "    labels:",
        *lines,
    ]


def _most_common_reasons(rejects: pd.DataFrame) -> str:
    kinds = rejects["reason"].str.split(":").str[0]
    lines = []
    for kind, count in Counter(kinds).most_common(3):
        example = rejects[kinds == kind].iloc[0]
        lines.append(f"  {count:,} x {kind}; first {example['source']} line {example['line']}: {example['excerpt']}")
        if example["reason"] != kind:
            lines.append(f"      {example['reason']}")
    return "\n".join(lines)


def _require_enough(reviews: pd.DataFrame, classes: list[str], location: str, sampled: int | None) -> None:
    if not classes:
        raise InputError(f"every label of {location} is mapped to null, so no rows are left; map at least 2 labels to classes")
    if reviews.empty:
        raise InputError(f"{location} contains no rows; expected one per review")
    if len(classes) < 2:
        raise InputError(f"every label of {location} is mapped to {classes[0]!r}; at least 2 classes are needed")
    counts = reviews["label"].value_counts().reindex(classes, fill_value=0)
    if counts.min() < FEWEST:
        advice = "raise download.sample or set it to null" if sampled else "add rows, or map that label to null to exclude it"
        found = terminal.some(f"{count:,} {name}" for name, count in counts.sort_values(kind="stable").items())
        raise InputError(f"{location} has {found}; at least {FEWEST} rows per label are needed: {advice}")
    found = terminal.some(f"{count:,} {name}" for name, count in counts.items())
    log.info("%s reviews from %s: %s", f"{len(reviews):,}", location, found)
