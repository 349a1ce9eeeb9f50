"""Train, valid and test, and the proof that no text is in two of them.

A group is never divided: all copies of a text, all reviews that the source puts into one group and, if asked, all reviews of a
film. Two texts are copies if they are equal after markup, case and spacing are removed.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sentiflow.config.params import Split
from sentiflow.system.errors import InputError

SPLITS = ("train", "valid", "test")
LEFT_OUT = "left_out"
WITHOUT_COLUMNS = {"imdb", "rotten_tomatoes", "folder", "aclimdb"}  # kinds of source whose columns and labels are not settings


def assign(reviews: pd.DataFrame, config: Split, *, seed: int) -> pd.Series:
    """The split of each review.

    Args:
        reviews: columns `text` (cleaned), `label`, `source`, and `split` (the source's own), `film` and `group`, each of which
            may be null.
        config: method, fractions, and what stays together or is left out.
        seed: of the draw; unused by the method `hash`, where a text's split follows from the text alone.

    Returns:
        "train", "valid", "test", or "left_out": for a text with several labels, if asked; with the method `official`, for a
        review in train or valid whose group is also in test, and for one in train whose group is also in valid.

    Raises:
        InputError: if the method needs what the source does not know, or a split would be empty or lack a label.
    """
    digests = digest(reviews["text"])
    if config.leave_out_conflicts:
        conflicts = conflicting(digests, reviews["label"])
        _require_labels_without_conflicts(reviews, conflicts)
        kept, digests = reviews[~conflicts], digests[~conflicts]
    else:
        kept = reviews
    keys = _group_keys(kept, digests, keep_films_together=config.keep_films_together)
    if config.method == "official":
        assigned = _official(kept, keys, config, seed)
    elif config.method == "hash":
        assigned = _by_hash(keys, config)
    else:
        assigned = _stratified(kept["label"], keys, {"test": config.test, "valid": config.valid}, seed)
    _check_labels(kept, digests, keys, assigned, config)
    return assigned.reindex(reviews.index, fill_value=LEFT_OUT)


def digest(texts: pd.Series) -> pd.Series:
    """SHA-256 of each text, as 64 hexadecimal digits; equal for copies."""
    return texts.map(lambda text: hashlib.sha256(text.encode()).hexdigest()).astype("str")


def digest_of_test_set(texts: pd.Series, labels: pd.Series, classes: Sequence[str]) -> str:
    """SHA-256 over classes, labels and texts in their order: the same reviews have the same, whatever their row numbers."""
    hashed = hashlib.sha256(json.dumps(list(classes)).encode())
    for label, text in zip(labels, texts, strict=True):
        hashed.update(json.dumps([label, text]).encode())
    return hashed.hexdigest()


def conflicting(digests: pd.Series, labels: pd.Series) -> pd.Series:
    """Whether the text of each review has several labels, under the same index."""
    return labels.groupby(digests).transform("nunique") > 1


def copies(digests: pd.Series, labels: pd.Series) -> dict[str, int]:
    """Distinct texts, surplus copies (reviews), and texts with several labels with the number of their reviews."""
    conflicts = conflicting(digests, labels)
    distinct = int(digests.nunique())
    return {
        "distinct_texts": distinct,
        "surplus_copies": len(digests) - distinct,
        "texts_with_conflicting_labels": int(digests[conflicts].nunique()),
        "rows_with_conflicting_labels": int(conflicts.sum()),
    }


def _group_keys(reviews: pd.DataFrame, digests: pd.Series, *, keep_films_together: bool) -> pd.Series:
    """A digest that all reviews of a group share: of the text, or of the film or the source's group (the first by name, where
    copies link several).

    Of the film and not of its reviews, so that a film stays where it is when reviews of it arrive later.
    """
    if keep_films_together and reviews["film"].isna().all():
        column = _setting(reviews, "group")
        raise InputError(
            "split.keep_films_together is true, but the source names no films (only aclimdb with its URL lists does); set it to "
            f"false in params.yaml{f', and {column} to the column whose rows belong together' if column else ''}"
        )
    columns = ["film", "group"] if keep_films_together else ["group"]
    columns = [column for column in columns if reviews[column].notna().any()]
    if not columns:
        return digests
    named = {column: pd.factorize(reviews[column], sort=True) for column in columns}  # -1 where unknown
    texts, _ = pd.factorize(digests)
    component = _components(texts, [codes for codes, _ in named.values()])
    keys = digests
    for column in reversed(columns):
        codes, names = named[column]
        first = pd.Series(codes, reviews.index).where(codes >= 0).groupby(component).transform("min")
        prefix = "" if column == "film" else "group\n"  # no cleaned text has a line feed
        keys = keys.where(first.isna(), first.map(digest(prefix + pd.Series(names, dtype="str"))))
    return keys.astype("str")


def _components(texts: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
    """The number of the connected component of each row; rows are connected if they share a text or another code but -1."""
    one, other, size = [], [], texts.max() + 1
    for codes in others:
        known = codes >= 0
        one.append(texts[known])
        other.append(size + codes[known])
        size += codes.max() + 1
    links = coo_array((np.ones(sum(map(len, one))), (np.concatenate(one), np.concatenate(other))), shape=(size, size))
    _, component = connected_components(links, directed=False)
    return np.asarray(component[texts])


def _stratified(labels: pd.Series, keys: pd.Series, fractions: dict[str, float], seed: int) -> pd.Series:
    """Cuts each label's groups, in shuffled order, where the running count of reviews passes a fraction."""
    groups = _by_label(labels, keys)
    groups = groups.iloc[np.random.default_rng(seed).permutation(len(groups))]
    sizes = groups.groupby("label")["size"]
    middle = (sizes.cumsum() - groups["size"] / 2) / sizes.transform("sum")  # where in its label a group stands, in (0, 1)
    return keys.map(_cut(middle, fractions))


def _by_label(labels: pd.Series, keys: pd.Series) -> pd.DataFrame:
    """Size and most frequent label of each group, by key; of labels that are equally frequent, the first by name."""
    counts = pd.DataFrame({"key": keys, "label": labels}).value_counts().rename("size").reset_index()
    groups = counts.sort_values(["size", "label"], ascending=[False, True]).drop_duplicates("key").set_index("key")
    return groups.assign(size=counts.groupby("key")["size"].sum()).sort_index()


def _by_hash(keys: pd.Series, config: Split) -> pd.Series:
    first_64_bits = np.frombuffer(bytes.fromhex("".join(keys)), ">u8")[::4]
    place = pd.Series((first_64_bits >> 12) / 2**52, index=keys.index)  # 52 bits, exact in a float
    return _cut(place, {"test": config.test, "valid": config.valid})


def _official(reviews: pd.DataFrame, keys: pd.Series, config: Split, seed: int) -> pd.Series:
    _require_halves(reviews)
    own = reviews["split"]
    in_test, in_valid = own == "test", own == "valid"
    copied = (~in_test & keys.isin(keys[in_test])) | ((own == "train") & keys.isin(keys[in_valid]))
    assigned = own.mask(copied, LEFT_OUT)
    if not in_valid.any():
        training = assigned == "train"
        assigned[training] = _stratified(reviews.loc[training, "label"], keys[training], {"valid": config.valid}, seed)
    return assigned


def _require_halves(reviews: pd.DataFrame) -> None:
    own = reviews["split"]
    missing = [half for half in ("train", "test") if half not in set(own)]
    column = _setting(reviews, "split")
    if missing:
        found = ", ".join(f"{count:,} in {name}" for name, count in _counts(own.dropna()).items())
        lacks = "train and test halves of its own" if len(missing) == 2 else f"{missing[0]} half, only {found}"
        set_column = f"set {column} to the column that holds train and test, or give a file per split as the location; or "
        raise InputError(
            f"split.method is official, but the source has no {lacks}; {set_column if column else ''}choose stratified or hash "
            "in params.yaml"
        )
    if stray := (~own.isin(SPLITS)).sum():
        raise InputError(
            f"split.method is official, but {stray:,} of the {len(own):,} reviews are in no half; expected train, valid or test "
            f"for each: {f'complete the column that {column} names' if column else 'correct the source'}, or choose stratified "
            "or hash in params.yaml"
        )


def _cut(place: pd.Series, fractions: dict[str, float]) -> pd.Series:
    """The split of each place in [0, 1): the fractions' splits first, train for what remains."""
    names = np.array([*fractions, "train"], dtype=object)
    edges = np.cumsum(list(fractions.values()))
    return pd.Series(names[np.searchsorted(edges, place, side="right")], index=place.index, dtype="str")


def _require_labels_without_conflicts(reviews: pd.DataFrame, conflicts: pd.Series) -> None:
    counts = _counts(reviews["label"])
    if lost := {label: counts[label] for label in sorted(set(counts) - set(reviews["label"][~conflicts]))}:
        told = " and ".join(f"all {count:,} reviews labelled {label}" for label, count in lost.items())
        raise InputError(
            f"split.leave_out_conflicts is true, and the texts of {told} have another label as well, so none is left; correct "
            f"these labels{_or_exclude(reviews)}, or set it to false in params.yaml"
        )


def _check_labels(reviews: pd.DataFrame, digests: pd.Series, keys: pd.Series, assigned: pd.Series, config: Split) -> None:
    labels = reviews["label"]
    for split in SPLITS:
        held = labels[assigned == split]
        if missing := sorted(set(labels) - set(held)):
            raise InputError(
                f"{split} would hold {len(held):,} reviews and none labelled {', '.join(missing)}, of {len(labels):,} in all; "
                f"{_advice(reviews, digests, keys, missing, config)}"
            )


def _advice(reviews: pd.DataFrame, digests: pd.Series, keys: pd.Series, missing: list[str], config: Split) -> str:
    """How varied the reviews of the missing labels are, and what to do."""
    told, fewest = [], len(reviews)
    for label in missing:
        of_label = reviews["label"] == label
        rows, texts, groups = int(of_label.sum()), digests[of_label].nunique(), keys[of_label].nunique()
        fewest = min(fewest, groups)
        if groups < texts:
            told.append(
                f"{rows:,} reviews labelled {label} belong to {groups:,} group{'s' * (groups > 1)} that must stay together"
            )
        elif texts < rows:
            told.append(f"{rows:,} reviews labelled {label} are copies of {texts:,} text{'s' * (texts > 1)}")
        else:
            told.append(f"{rows:,} reviews are labelled {label}")
    if fewest < len(SPLITS):
        fraction = min(config.valid, config.test)
        action = (
            f"a label needs at least {len(SPLITS)} different texts or groups, one for each split (about "
            f"{math.ceil(1 / fraction)} where a split is {fraction:g} of them); add different ones{_or_exclude(reviews)}"
        )
    elif config.method == "official":
        action = "add some to each half, or choose stratified or hash in params.yaml"
    else:
        action = "use more reviews or larger fractions in params.yaml (split)"
    return f"{', '.join(told)}; {action}"


def _or_exclude(reviews: pd.DataFrame) -> str:
    column = _setting(reviews, "labels")
    return f", or map that label to null in {column}" if column else ""


def _setting(reviews: pd.DataFrame, key: str) -> str | None:
    """The name in params.yaml of a setting that describes a table of reviews; None where the source has no such settings."""
    kind = reviews["source"].iloc[0]
    return None if kind in WITHOUT_COLUMNS else f"download.{kind}.{key}"


def prove(reviews: pd.DataFrame, assigned: pd.Series, config: Split) -> dict[str, Any]:
    """Counts, label balance and overlaps of the splits.

    Args:
        reviews: columns `text` (cleaned), `label`, `film` and `group`.
        assigned: the split of each review, under the same index.
        config: what had to stay together and be left out.

    Raises:
        InputError: if a text or group (or film, if films stay together) is in two splits, with the number and one of them.
    """
    digests = digest(reviews["text"])
    shared = {
        "text": _shared(digests, assigned),
        "film": _shared(reviews["film"], assigned),
        "group": _shared(reviews["group"], assigned),
    }
    for kind in ("text", "film", "group") if config.keep_films_together else ("text", "group"):
        for where, values in shared[kind].items():
            if values:
                raise InputError(f"{len(values)} {kind}s are in two splits, {where}, such as {min(values)}; nothing was written")
    of_split = {split: assigned == split for split in SPLITS}
    counts = {split: copies(digests[rows], reviews["label"][rows]) for split, rows in of_split.items()}
    left_out = assigned == LEFT_OUT
    conflicts = (left_out & conflicting(digests, reviews["label"])).sum() if config.leave_out_conflicts else 0
    return {
        "rows": {split: int(rows.sum()) for split, rows in of_split.items()},
        "left_out": int(left_out.sum()),
        "left_out_conflicts": int(conflicts),
        **{name: {split: found[name] for split, found in counts.items()} for name in counts["train"]},
        "labels": {split: _counts(reviews["label"][rows]) for split, rows in of_split.items()},
        "shared_texts": _numbers(shared["text"]),
        "shared_films": _numbers(shared["film"]) if reviews["film"].notna().any() else None,
        "shared_groups": _numbers(shared["group"]) if reviews["group"].notna().any() else None,
    }


def _shared(values: pd.Series, assigned: pd.Series) -> dict[str, set[str]]:
    """The values that are in both of two splits, for each pair of splits."""
    found = {split: set(values[assigned == split].dropna()) for split in SPLITS}
    return {f"{one}-{other}": found[one] & found[other] for one, other in combinations(SPLITS, 2)}


def _numbers(shared: dict[str, set[str]]) -> dict[str, int]:
    return {where: len(values) for where, values in shared.items()}


def _counts(labels: pd.Series) -> dict[str, int]:
    return {str(label): int(count) for label, count in labels.value_counts().sort_index().items()}
