"""What differs between two versions of the data, text by text.

A text is what the split takes for one: two rows that read alike once markup, case and spacing are gone hold the same text. Both
versions are cleaned by the code of this folder, so that other code is no difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sentiflow.data import copies, splits
from sentiflow.sharing.versions import history, recorded
from sentiflow.system import artifacts, git
from sentiflow.system.errors import InputError

REVIEWS = Path(history.REVIEWS) / "reviews.parquet"
PARTS = {split: Path(history.SPLITS) / f"{split}.parquet" for split in splits.SPLITS}
ADDED, REMOVED, RELABELLED, MOVED, COPIES = "added", "removed", "relabelled", "moved", "other number of copies"
SEEN = ("train", "valid")  # what a model is fitted to and chosen by


@dataclass(frozen=True)
class Side:
    """One version: a name for people, and its distinct texts by digest with `text`, `label`, `rows` and `split`."""

    name: str
    texts: pd.DataFrame

    @property
    def rows(self) -> int:
        return int(self.texts["rows"].sum())


def of_commit(name: str) -> Side:
    """The data as a commit recorded them."""
    commit = git.commit(name)
    reviews, *parts = recorded.files(commit, [str(REVIEWS), *map(str, PARTS.values())])
    return _side(f"{name} ({commit[: recorded.SHORT]})", reviews, dict(zip(PARTS, parts, strict=True)))


def of_folder() -> Side:
    """The data as they lie in this folder."""
    if missing := [str(file) for file in [REVIEWS, *PARTS.values()] if not file.exists()]:
        raise InputError(
            f"this folder has no {', '.join(missing)}; `sentiflow remote pull` or `sentiflow repro` brings the data, "
            "or name a second commit"
        )
    return _side("this folder", REVIEWS, PARTS)


def _side(name: str, reviews_file: Path, parts: Mapping[str, Path]) -> Side:
    reviews = artifacts.read_frame(reviews_file)
    split = pd.concat(
        [pd.Series(part, index=artifacts.read_table(file, ["row"])["row"].to_pandas()) for part, file in parts.items()]
    )
    return Side(name, distinct(reviews.assign(split=reviews["row"].map(split).fillna(""))))


def distinct(reviews: pd.DataFrame) -> pd.DataFrame:
    """The distinct texts by digest: the first as it stands, all its labels, how many rows, and the split.

    Args:
        reviews: columns `text`, `label` and `split`.
    """
    keyed = reviews.assign(key=copies.identity(reviews["text"]))

    def joined(column: str) -> pd.Series:
        return keyed.drop_duplicates(["key", column]).sort_values(column).groupby("key")[column].agg(" | ".join)

    groups = keyed.groupby("key", sort=False)
    return pd.DataFrame(
        {"text": groups["text"].first(), "label": joined("label"), "rows": groups.size(), "split": joined("split")}
    )


def between(before: Side, after: Side) -> pd.DataFrame:
    """A row for each text that is not the same in both versions, what touches the scores most first.

    Returns:
        Columns `change` (kinds of change, with commas between), and `label`, `split` and `rows` before and after, `text`.
    """
    both = before.texts.add_suffix("_before").join(after.texts.add_suffix("_after"), how="outer")
    only_before, only_after = both["rows_after"].isna(), both["rows_before"].isna()
    shared = ~only_before & ~only_after
    kinds = {
        MOVED: shared & (both["split_before"] != both["split_after"]),
        RELABELLED: shared & (both["label_before"] != both["label_after"]),
        REMOVED: only_before,
        ADDED: only_after,
        COPIES: shared & (both["rows_before"] != both["rows_after"]),
    }
    change = pd.Series("", index=both.index, dtype="str")
    for kind, holds in kinds.items():
        change[holds] += f", {kind}"
    table = pd.DataFrame(
        {
            "change": change.str.removeprefix(", "),
            **{name: both[name].fillna("") for name in ("label_before", "label_after", "split_before", "split_after")},
            **{name: both[name].fillna(0).astype("int64") for name in ("rows_before", "rows_after")},
            "text": both["text_after"].fillna(both["text_before"]),
        }
    )[change != ""]
    first = {MOVED: 1, RELABELLED: 2, REMOVED: 3, ADDED: 4, COPIES: 5}
    order = table["change"].str.split(",").str[0].map(first).where(~contaminated(table), 0)
    return table.assign(order=order).sort_values(["order", "text"], kind="stable").drop(columns="order").reset_index(drop=True)


def contaminated(table: pd.DataFrame) -> pd.Series:
    """Whether a text was in test before and is now among those that a model is fitted to or chosen by."""
    return (table["split_before"] == "test") & table["split_after"].isin(SEEN)


def seen_before(table: pd.DataFrame) -> pd.Series:
    """Whether a text is in test now and was among those that an earlier model was fitted to or chosen by."""
    return table["split_before"].isin(SEEN) & (table["split_after"] == "test")
