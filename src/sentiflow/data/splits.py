"""Splits reviews into train, valid and test, and proves that no text is in two of them.

A group is never divided. It contains all copies of a text, all reviews of a group of the source and, if configured, all reviews
of a film. Two texts are copies if they are equal without markup, case and spacing.
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

from sentiflow.config.params import Download, Split
from sentiflow.system.errors import InputError

SPLITS = ("train", "valid", "test")
LEFT_OUT = "left_out"


def assign(reviews: pd.DataFrame, config: Split, *, seed: int) -> pd.Series:
    """The split of each review.

    Args:
        reviews: columns `text` (cleaned), `label` and `source`, and the nullable `split` (of the source), `film` and `group`.
        seed: not used by the method `hash`, where the split of a text depends on the text alone.

    Returns:
        "train", "valid", "test", or "left_out": a text with several labels, if configured; with the method `official`, a review
        in train or valid whose group is also in test, or in train whose group is also in valid.

    Raises:
        InputError: if the source lacks what the method needs, or a split would be empty or lack a label.
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
    """SHA-256 of each text, as 64 hexadecimal digits."""
    return texts.map(lambda text: hashlib.sha256(text.encode()).hexdigest()).astype("str")


def digest_of_test_set(texts: pd.Series, labels: pd.Series, classes: Sequence[str]) -> str:
    """SHA-256 over classes, labels and texts in their order, independent of row numbers."""
    hashed = hashlib.sha256(json.dumps(list(classes)).encode())
    for label, text in zip(labels, texts, strict=True):
        hashed.update(json.dumps([label, text]).encode())
    return hashed.hexdigest()


def conflicting(digests: pd.Series, labels: pd.Series) -> pd.Series:
    """Whether the text of each review has several labels, with the same index."""
    return labels.groupby(digests).transform("nunique") > 1


def copies(digests: pd.Series, labels: pd.Series) -> dict[str, int]:
    """Number of distinct texts, of surplus copies, and of texts with several labels and their reviews."""
    conflicts = conflicting(digests, labels)
    distinct = int(digests.nunique())
    return {
        "distinct_texts": distinct,
        "surplus_copies": len(digests) - distinct,
        "texts_with_conflicting_labels": int(digests[conflicts].nunique()),
        "rows_with_conflicting_labels": int(conflicts.sum()),
    }


def _group_keys(reviews: pd.DataFrame, digests: pd.Series, *, keep_films_together: bool) -> pd.Series:
    """Digest of the group of each review: of its film, else of its group in the source, else of its text.

    If copies link several films or groups, they are one group with the first of their names. The digest does not depend on the
    reviews of a film or group, so that it keeps its split when new ones arrive.
    """
    if keep_films_together and reviews["film"].isna().all():
        column = _setting(reviews, "group")
        raise InputError(
            "split.keep_films_together is true, but the source has no films (only aclimdb with its URL lists has); set it to "
            f"false in params.yaml{f', and {column} to the column whose rows belong together' if column else ''}"
        )
    columns = ["group", "film"] if keep_films_together else ["group"]  # the last one takes precedence
    columns = [column for column in columns if reviews[column].notna().any()]
    if not columns:
        return digests
    component = _components(digests, [reviews[column] for column in columns])
    keys = digests
    for column in columns:
        first = reviews[column].groupby(component).transform("min").dropna()
        prefix = "" if column == "film" else "group\n"  # cleaned texts contain no line feeds
        keys = digest(prefix + first).reindex(keys.index).fillna(keys)
    return keys


def _components(texts: pd.Series, others: list[pd.Series]) -> np.ndarray:
    """Number of the connected component of each row. Rows are connected if they have the same text or another value in common."""
    nodes, _ = pd.factorize(texts)
    size, links = nodes.max() + 1, []
    for values in others:
        codes, _ = pd.factorize(values)  # -1: null
        known = codes >= 0
        links.append([nodes[known], size + codes[known]])
        size += codes.max() + 1
    ends = np.hstack(links)
    graph = coo_array((np.ones(ends.shape[1]), ends), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][nodes])


def _stratified(labels: pd.Series, keys: pd.Series, fractions: dict[str, float], seed: int) -> pd.Series:
    """Shuffles the groups of each label and cuts them where the cumulative number of reviews exceeds a fraction."""
    groups = _by_label(labels, keys)
    groups = groups.iloc[np.random.default_rng(seed).permutation(len(groups))]
    sizes = groups.groupby("label")["size"]
    middle = (sizes.cumsum() - groups["size"] / 2) / sizes.transform("sum")  # position of a group in its label, in (0, 1)
    return keys.map(_cut(middle, fractions))


def _by_label(labels: pd.Series, keys: pd.Series) -> pd.DataFrame:
    """Size and most frequent label (the first by name if tied) of each group, by key."""
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
        found = ", ".join(f"{count:,} in {name}" for name, count in counts(own.dropna()).items())
        lacks = "official train and test splits" if len(missing) == 2 else f"{missing[0]} split, only {found}"
        set_column = f"set {column} to the column with train and test, or use one file per split as the location; or "
        raise InputError(
            f"split.method is official, but the source has no {lacks}; {set_column if column else ''}choose stratified or hash "
            "in params.yaml"
        )
    if without := (~own.isin(SPLITS)).sum():
        raise InputError(
            f"split.method is official, but {without:,} of the {len(own):,} reviews are not in train, valid or test; "
            f"{f'complete the column {column}' if column else 'correct the source'}, or choose stratified or hash in params.yaml"
        )


def _cut(place: pd.Series, fractions: dict[str, float]) -> pd.Series:
    """The split of each position in [0, 1): first the splits with fractions, then train."""
    names = np.array([*fractions, "train"], dtype=object)
    edges = np.cumsum(list(fractions.values()))
    return pd.Series(names[np.searchsorted(edges, place, side="right")], index=place.index, dtype="str")


def _require_labels_without_conflicts(reviews: pd.DataFrame, conflicts: pd.Series) -> None:
    rows = counts(reviews["label"])
    if lost := sorted(set(rows) - set(reviews["label"][~conflicts])):
        affected = " and ".join(f"all {rows[label]:,} reviews labelled {label}" for label in lost)
        raise InputError(
            f"split.leave_out_conflicts is true, and the texts of {affected} also have another label, so none is left; correct "
            f"these labels{_or_exclude(reviews)}, or set it to false in params.yaml"
        )


def _check_labels(reviews: pd.DataFrame, digests: pd.Series, keys: pd.Series, assigned: pd.Series, config: Split) -> None:
    labels = reviews["label"]
    for split in SPLITS:
        found = labels[assigned == split]
        if missing := sorted(set(labels) - set(found)):
            raise InputError(
                f"{split} would have {len(found):,} reviews and none labelled {', '.join(missing)}, of {len(labels):,} in total; "
                f"{_advice(reviews, digests, keys, missing, config)}"
            )


def _advice(reviews: pd.DataFrame, digests: pd.Series, keys: pd.Series, missing: list[str], config: Split) -> str:
    """Distinct texts and groups of the missing labels, and what to do."""
    facts, fewest = [], len(reviews)
    for label in missing:
        of_label = reviews["label"] == label
        rows, texts, groups = int(of_label.sum()), digests[of_label].nunique(), keys[of_label].nunique()
        fewest = min(fewest, groups)
        if groups < texts:
            facts.append(
                f"{rows:,} reviews labelled {label} belong to {groups:,} group{'s' * (groups > 1)} that must stay together"
            )
        elif texts < rows:
            facts.append(f"{rows:,} reviews labelled {label} are copies of {texts:,} text{'s' * (texts > 1)}")
        else:
            facts.append(f"{rows:,} reviews are labelled {label}")
    if fewest < len(SPLITS):
        fraction = min(config.valid, config.test)
        action = (
            f"a label needs at least {len(SPLITS)} distinct texts or groups, one per split (about {math.ceil(1 / fraction)} if a "
            f"split has a fraction of {fraction:g}); add more{_or_exclude(reviews)}"
        )
    elif config.method == "official":
        action = "add some to each split, or choose stratified or hash in params.yaml"
    else:
        action = "use more reviews or larger fractions in params.yaml (split)"
    return f"{', '.join(facts)}; {action}"


def _or_exclude(reviews: pd.DataFrame) -> str:
    column = _setting(reviews, "labels")
    return f", or map that label to null in {column}" if column else ""


def _setting(reviews: pd.DataFrame, key: str) -> str | None:
    """The key in params.yaml of a setting of the source, or None if it has no such setting."""
    kind = reviews["source"].iloc[0]
    section = Download.model_fields.get(kind)
    return f"download.{kind}.{key}" if section and key in getattr(section.annotation, "model_fields", ()) else None


def prove(reviews: pd.DataFrame, assigned: pd.Series, config: Split) -> dict[str, Any]:
    """Counts, label balance and overlaps of the splits.

    Args:
        reviews: columns `text` (cleaned), `label`, `film` and `group`.
        assigned: the split of each review, with the same index.

    Raises:
        InputError: if a text or group (or film, if films are kept together) is in two splits.
    """
    digests = digest(reviews["text"])
    values_of = {"text": digests, "film": reviews["film"], "group": reviews["group"]}
    shared = {kind: _shared(values, assigned) for kind, values in values_of.items()}
    for kind in ("text", "film", "group") if config.keep_films_together else ("text", "group"):
        for where, values in shared[kind].items():
            if values:
                raise InputError(f"{len(values)} {kind}s are in two splits, {where}, such as {min(values)}; nothing was written")
    of_split = {split: assigned == split for split in SPLITS}
    found = {split: copies(digests[rows], reviews["label"][rows]) for split, rows in of_split.items()}
    left_out = assigned == LEFT_OUT
    conflicts = (left_out & conflicting(digests, reviews["label"])).sum() if config.leave_out_conflicts else 0
    return {
        "rows": {split: int(rows.sum()) for split, rows in of_split.items()},
        "left_out": int(left_out.sum()),
        "left_out_conflicts": int(conflicts),
        **{name: {split: found[split][name] for split in SPLITS} for name in found["train"]},
        "labels": {split: counts(reviews["label"][rows]) for split, rows in of_split.items()},
        "shared_texts": _numbers(shared["text"]),
        "shared_films": _numbers(shared["film"]) if reviews["film"].notna().any() else None,
        "shared_groups": _numbers(shared["group"]) if reviews["group"].notna().any() else None,
    }


def _shared(values: pd.Series, assigned: pd.Series) -> dict[str, set[str]]:
    """The values in both splits, for each pair of splits."""
    found = {split: set(values[assigned == split].dropna()) for split in SPLITS}
    return {f"{one}-{other}": found[one] & found[other] for one, other in combinations(SPLITS, 2)}


def _numbers(shared: dict[str, set[str]]) -> dict[str, int]:
    return {where: len(values) for where, values in shared.items()}


def counts(values: pd.Series) -> dict[str, int]:
    """The number of occurrences of each value, sorted by value."""
    return {str(value): int(count) for value, count in values.value_counts().sort_index().items()}
