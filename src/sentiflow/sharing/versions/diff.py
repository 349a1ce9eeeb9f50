"""Show what differs between two versions of the data: texts added, removed, relabelled, or moved between the splits."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sentiflow.data.sources.rows import excerpt
from sentiflow.evaluation.error_analysis import as_csv
from sentiflow.pipeline import stage_paths
from sentiflow.sharing.versions import difference
from sentiflow.sharing.versions.difference import Side
from sentiflow.system import markdown, stage, terminal
from sentiflow.system.errors import InputError

SHOWN = 20  # texts


def report(a: str = "HEAD", b: str | None = None, out: Path | None = None) -> None:
    """Prints what differs between the data of two commits.

    Args:
        a: the commit before.
        b: the commit after; None for this folder as it is.
        out: where to write the whole list, as CSV.

    Raises:
        InputError: if a commit has no data, or `out` is a path of a stage.
    """
    if out is not None and out.is_dir():
        raise InputError(f"received --out {out}, which is a folder; expected the name of a file")
    if out is not None:
        stage_paths.refuse(out, elsewhere=out.name)
    before = difference.of_commit(a)
    after = difference.of_commit(b) if b else difference.of_folder()
    table = difference.between(before, after)
    terminal.tell("\n".join([*_warnings(table), *_summary(before, after, table)]))
    if out is not None:
        with stage.writing(out) as [partial]:
            partial.write_text(as_csv(table), encoding="utf-8", newline="")
        terminal.tell(f"All {len(table):,}: {out}")


def _warnings(table: pd.DataFrame) -> list[str]:
    told = []
    lost, seen = table[difference.contaminated(table)], table[difference.seen_before(table)]
    if len(lost):
        told.append(
            f"TEST SET CONTAMINATED: {_into(lost)}. Scores before and after are not comparable: they are of other test reviews."
        )
    if len(seen):
        told.append(
            f"{len(seen):,} texts of test were in train or valid before: a model of before has seen them, "
            "and its score on this test says too much."
        )
    if told:
        told += ["With split.method: hash in params.yaml a text never leaves its split.", ""]
    return told


def _into(lost: pd.DataFrame) -> str:
    counts = lost["split_after"].value_counts()
    of_split = [f"{counts[split]:,} texts that were in test are now in {split}" for split in difference.SEEN if split in counts]
    return ", ".join(of_split)


def _summary(before: Side, after: Side, table: pd.DataFrame) -> list[str]:
    lines = [
        f"before: {before.name}: {before.rows:,} rows, {len(before.texts):,} distinct texts",
        f"after:  {after.name}: {after.rows:,} rows, {len(after.texts):,} distinct texts",
        "",
    ]
    if table.empty:
        return [*lines, "No difference: the same texts, labels and splits."]
    kinds = [difference.ADDED, difference.REMOVED, difference.RELABELLED, difference.MOVED, difference.COPIES]
    has = {kind: table["change"].str.split(", ").map(lambda found, kind=kind: kind in found) for kind in kinds}
    rows = [[kind, f"{holds.sum():,}", _rows_of(table[holds], kind)] for kind, holds in has.items()]
    lines += markdown.markdown(["texts", "number", "rows"], rows)
    if has[difference.MOVED].any():
        ways = table[has[difference.MOVED]].groupby(["split_before", "split_after"]).size()
        moves = [[_named(way[0]), _named(way[1]), f"{count:,}"] for way, count in ways.items()]  # type: ignore[index]
        lines += ["", *markdown.markdown(["moved from", "to", "texts"], moves)]
    shown = [_row(line) for line in table.head(SHOWN).to_dict("records")]
    lines += ["", *markdown.markdown(["change", "label", "split", "text"], shown)]
    rest = len(table) - len(shown)
    return [*lines, *([f"and {rest:,} more; --out changes.csv writes all of them"] if rest else [])]


def _row(line: Mapping[Hashable, Any]) -> list[str]:
    label, split = (_step(line[f"{kind}_before"], line[f"{kind}_after"]) for kind in ("label", "split"))
    return [line["change"], label, split, excerpt(line["text"])]


def _rows_of(table: pd.DataFrame, kind: str) -> str:
    before, after = table["rows_before"].sum(), table["rows_after"].sum()
    return f"{after - before:+,}" if kind in (difference.ADDED, difference.REMOVED, difference.COPIES) else f"{after:,}"


def _step(before: str, after: str) -> str:
    return after if before == after else " -> ".join(filter(None, [before, after]))


def _named(split: str) -> str:
    return split or "none"
