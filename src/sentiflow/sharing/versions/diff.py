"""Show the differences between two versions of the data: texts added, removed, relabelled, or moved between splits.

Texts are compared as the split compares them: rows that differ only in markup, case and spacing have the same text. Both
versions are normalised by the current code, so that a change of that code is not a difference.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sentiflow.data import copies, splits
from sentiflow.data.sources.rows import excerpt
from sentiflow.evaluation.error_analysis import as_csv
from sentiflow.pipeline import stage_paths
from sentiflow.sharing.versions import history, recorded
from sentiflow.system import artifacts, git, markdown, stage, terminal
from sentiflow.system.errors import InputError

REVIEWS = Path(history.REVIEWS) / "reviews.parquet"
PARTS = {split: Path(history.SPLITS) / f"{split}.parquet" for split in splits.SPLITS}
ADDED, REMOVED, RELABELLED, MOVED, COPIES = "added", "removed", "relabelled", "moved", "other number of copies"
SEEN = ("train", "valid")  # splits that a model is fitted and selected on
SHOWN = 20  # texts


class Side(NamedTuple):
    """One version of the data."""

    name: str
    texts: pd.DataFrame  # distinct texts by digest; columns text, label, rows, split

    @property
    def rows(self) -> int:
        return int(self.texts["rows"].sum())


def report(a: str = "HEAD", b: str | None = None, out: Path | None = None) -> None:
    """Print the differences between the data of two commits.

    Args:
        a: the first commit.
        b: the second commit; None for the data in this folder.
        out: CSV file for the whole list.

    Raises:
        InputError: if a commit has no data, or `out` is a folder or a path of a stage.
    """
    if out is not None:
        if out.is_dir():
            raise InputError(f"--out: expected a file, got the folder {out}")
        stage_paths.refuse(out, elsewhere=out.name)
    before = of_commit(a)
    after = of_commit(b) if b else of_folder()
    table = between(before, after)
    terminal.tell("\n".join([*_warnings(table), *_summary(before, after, table)]))
    if out is not None:
        with stage.writing(out) as [partial]:
            partial.write_text(as_csv(table), encoding="utf-8", newline="")
        terminal.tell(f"All {len(table):,}: {out}")


def of_commit(name: str) -> Side:
    commit = git.commit(name)
    reviews, *parts = recorded.files(commit, [str(REVIEWS), *map(str, PARTS.values())])
    return _side(f"{name} ({commit[: recorded.SHORT]})", reviews, dict(zip(PARTS, parts, strict=True)))


def of_folder() -> Side:
    if missing := [str(file) for file in [REVIEWS, *PARTS.values()] if not file.exists()]:
        raise InputError(
            f"this folder lacks {', '.join(missing)}; download it with `sentiflow remote pull`, rebuild it with "
            "`sentiflow repro`, or give a second commit"
        )
    return _side("this folder", REVIEWS, PARTS)


def _side(name: str, reviews_file: Path, parts: Mapping[str, Path]) -> Side:
    reviews = artifacts.read_frame(reviews_file)
    split = pd.concat(
        [pd.Series(part, index=artifacts.read_table(file, ["row"])["row"].to_pandas()) for part, file in parts.items()]
    )
    return Side(name, _distinct(reviews.assign(split=reviews["row"].map(split).fillna(""))))


def _distinct(reviews: pd.DataFrame) -> pd.DataFrame:
    """Distinct texts by digest: the first spelling, all labels, the number of rows, and the split."""
    keyed = reviews.assign(key=copies.identity(reviews["text"]))

    def joined(column: str) -> pd.Series:
        return keyed.drop_duplicates(["key", column]).sort_values(column).groupby("key")[column].agg(" | ".join)

    groups = keyed.groupby("key", sort=False)
    return pd.DataFrame(
        {"text": groups["text"].first(), "label": joined("label"), "rows": groups.size(), "split": joined("split")}
    )


def between(before: Side, after: Side) -> pd.DataFrame:
    """One row per text that differs, those with the greatest effect on the scores first.

    Returns:
        Columns `change` (kinds of change, joined by commas), `label`, `split` and `rows` before and after, `text`.
    """
    both = before.texts.add_suffix("_before").join(after.texts.add_suffix("_after"), how="outer")
    only_before, only_after = both["rows_after"].isna(), both["rows_before"].isna()
    shared = ~only_before & ~only_after
    kinds = {  # in the order of the list
        MOVED: shared & (both["split_before"] != both["split_after"]),
        RELABELLED: shared & (both["label_before"] != both["label_after"]),
        REMOVED: only_before,
        ADDED: only_after,
        COPIES: shared & (both["rows_before"] != both["rows_after"]),
    }
    change = pd.Series("", index=both.index, dtype="str")
    for kind, applies in kinds.items():
        change[applies] += f", {kind}"
    table = pd.DataFrame(
        {
            "change": change.str.removeprefix(", "),
            **{name: both[name].fillna("") for name in ("label_before", "label_after", "split_before", "split_after")},
            **{name: both[name].fillna(0).astype("int64") for name in ("rows_before", "rows_after")},
            "text": both["text_after"].fillna(both["text_before"]),
        }
    )[change != ""]
    order = table["change"].str.split(",").str[0].map(list(kinds).index).where(~_left_test(table), -1)
    return table.assign(order=order).sort_values(["order", "text"], kind="stable").drop(columns="order").reset_index(drop=True)


def _left_test(table: pd.DataFrame) -> pd.Series:
    return (table["split_before"] == "test") & table["split_after"].isin(SEEN)


def _warnings(table: pd.DataFrame) -> list[str]:
    lines = []
    left, entered = table[_left_test(table)], table[table["split_before"].isin(SEEN) & (table["split_after"] == "test")]
    if len(left):
        counts = left["split_after"].value_counts()
        moves = [f"{counts[split]:,} texts moved from test to {split}" for split in SEEN if split in counts]
        lines.append(
            f"TEST SET CONTAMINATED: {', '.join(moves)}. Scores before and after are not comparable: the test sets differ."
        )
    if len(entered):
        lines.append(
            f"{len(entered):,} texts moved from train or valid to test: models trained before have seen them, "
            "and their scores on this test set are too high."
        )
    if lines:
        lines += ["With split.method: hash in params.yaml a text never leaves its split.", ""]
    return lines


def _summary(before: Side, after: Side, table: pd.DataFrame) -> list[str]:
    lines = [
        f"before: {before.name}: {before.rows:,} rows, {len(before.texts):,} distinct texts",
        f"after:  {after.name}: {after.rows:,} rows, {len(after.texts):,} distinct texts",
        "",
    ]
    if table.empty:
        return [*lines, "No difference: the same texts, labels and splits."]
    kinds = [ADDED, REMOVED, RELABELLED, MOVED, COPIES]
    of_kind = {kind: table[table["change"].str.split(", ").map(lambda found, kind=kind: kind in found)] for kind in kinds}
    rows = [[kind, f"{len(texts):,}", _rows_of(texts, kind)] for kind, texts in of_kind.items()]
    lines += markdown.markdown(["texts", "number", "rows"], rows)
    if not of_kind[MOVED].empty:
        counts = of_kind[MOVED].groupby(["split_before", "split_after"], as_index=False).size()
        moves = [[old or "none", new or "none", f"{count:,}"] for old, new, count in counts.to_numpy().tolist()]
        lines += ["", *markdown.markdown(["moved from", "to", "texts"], moves)]
    lines += [
        "",
        *markdown.markdown(["change", "label", "split", "text"], [_row(each) for each in table.head(SHOWN).to_dict("records")]),
    ]
    rest = len(table) - SHOWN
    return [*lines, *([f"and {rest:,} more; --out changes.csv writes all of them"] if rest > 0 else [])]


def _row(line: Mapping[Hashable, Any]) -> list[str]:
    label, split = (
        " -> ".join(dict.fromkeys(filter(None, [line[f"{column}_before"], line[f"{column}_after"]])))
        for column in ("label", "split")
    )
    return [line["change"], label, split, excerpt(line["text"])]


def _rows_of(texts: pd.DataFrame, kind: str) -> str:
    before, after = texts["rows_before"].sum(), texts["rows_after"].sum()
    return f"{after - before:+,}" if kind in (ADDED, REMOVED, COPIES) else f"{after:,}"
