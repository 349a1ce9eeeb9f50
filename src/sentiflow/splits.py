"""Train, valid and test, and the proof that no text is in two of them.

The unit that is split is a group: all copies of a text and, if asked, all reviews of a film. Two texts are copies if they read
alike once markup, case and spacing are gone.
"""

import hashlib
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sentiflow.errors import InputError
from sentiflow.params import Split

SPLITS = ("train", "valid", "test")
LEFT_OUT = "left_out"


def assign(reviews: pd.DataFrame, how: Split, *, seed: int) -> pd.Series:
    """The split of each review.

    Args:
        reviews: columns `text` (cleaned), `label`, `split` (the source's own, or null) and `film` (or null).
        how: method, fractions, and whether a film stays together.
        seed: of the draw; unused by the method `hash`, where a text's split follows from the text alone.

    Returns:
        "train", "valid", "test", or "left_out" for a copy in the official training half of a review in its test half.

    Raises:
        InputError: if the method asks for what the source does not know, or a split would stay empty or lack a label.
    """
    keys = _group_keys(reviews, keep_films_together=how.keep_films_together)
    if how.method == "official":
        assigned = _official(reviews, keys, how, seed)
    elif how.method == "hash":
        assigned = _by_hash(keys, how)
    else:
        assigned = _stratified(reviews["label"], keys, {"test": how.test, "valid": how.valid}, seed)
    _check_labels(reviews["label"], assigned)
    return assigned


def _group_keys(reviews: pd.DataFrame, *, keep_films_together: bool) -> pd.Series:
    """A digest that all reviews of a group share: of the text, or of the film (the first by name, where copies link several).

    Of the film and not of its reviews, so that a film stays where it is when reviews of it arrive later.
    """
    digests = digest(reviews["text"])
    if not keep_films_together:
        return digests
    if reviews["film"].isna().all():
        raise InputError(
            "split.keep_films_together is true, but the source names no films (only aclimdb with its URL lists does); "
            "set it to false in params.yaml or change download.source"
        )
    texts, _ = pd.factorize(digests)
    films, names = pd.factorize(reviews["film"])  # -1 where unknown
    known = films >= 0
    size = texts.max() + 1 + len(names)
    links = coo_array((np.ones(known.sum()), (texts[known], texts.max() + 1 + films[known])), shape=(size, size))
    _, component = connected_components(links, directed=False)
    first_film = reviews["film"].groupby(component[texts]).transform("min")
    return digests.where(first_film.isna(), digest(first_film.fillna("")))


def digest(texts: pd.Series) -> pd.Series:
    """SHA-256 of each text, as 64 hexadecimal digits; equal for copies."""
    return texts.map(lambda text: hashlib.sha256(text.encode()).hexdigest()).astype("str")


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


def _by_hash(keys: pd.Series, how: Split) -> pd.Series:
    first_64_bits = np.frombuffer(bytes.fromhex("".join(keys)), ">u8")[::4]
    place = pd.Series((first_64_bits >> 12) / 2**52, index=keys.index)  # 52 bits, exact in a float
    return _cut(place, {"test": how.test, "valid": how.valid})


def _official(reviews: pd.DataFrame, keys: pd.Series, how: Split, seed: int) -> pd.Series:
    halves = reviews["split"]
    if not (halves == "test").any() or not (halves == "train").any():
        raise InputError(
            "split.method is official, but the source has no train and test halves of its own (only aclimdb has); "
            "choose stratified or hash in params.yaml"
        )
    in_test = halves == "test"
    copy_of_test = ~in_test & keys.isin(keys[in_test])
    assigned = pd.Series("test", index=reviews.index, dtype="str")
    assigned[copy_of_test] = LEFT_OUT
    training = ~in_test & ~copy_of_test
    assigned[training] = _stratified(reviews.loc[training, "label"], keys[training], {"valid": how.valid}, seed)
    return assigned


def _cut(place: pd.Series, fractions: dict[str, float]) -> pd.Series:
    """The split of each place in [0, 1): the fractions' splits first, train for what remains."""
    names = np.array([*fractions, "train"], dtype=object)
    edges = np.cumsum(list(fractions.values()))
    return pd.Series(names[np.searchsorted(edges, place, side="right")], index=place.index, dtype="str")


def _check_labels(labels: pd.Series, assigned: pd.Series) -> None:
    for split in SPLITS:
        missing = set(labels) - set(labels[assigned == split])
        if missing:
            raise InputError(
                f"{split} would hold {(assigned == split).sum()} reviews and none labelled {', '.join(sorted(missing))}, of "
                f"{len(labels)} in all; use more reviews or larger fractions in params.yaml (split)"
            )


def prove(reviews: pd.DataFrame, assigned: pd.Series, *, keep_films_together: bool) -> dict[str, Any]:
    """Counts, label balance and overlaps of the splits.

    Args:
        reviews: columns `text`, `label`, `film`.
        assigned: the split of each review, under the same index.

        keep_films_together: whether a film in two splits is a fault too.

    Raises:
        InputError: if a text (or film) is in two splits, naming how many and one of them.
    """
    digests = digest(reviews["text"])
    texts = _shared(digests, assigned)
    films = _shared(reviews["film"], assigned)
    for kind, shared in (("text", texts), ("film", films if keep_films_together else {})):
        for where, values in shared.items():
            if values:
                raise InputError(f"{len(values)} {kind}s are in two splits, {where}, such as {min(values)}; nothing was written")
    return {
        "rows": {split: int((assigned == split).sum()) for split in SPLITS},
        "left_out": int((assigned == LEFT_OUT).sum()),
        "distinct_texts": {split: int(digests[assigned == split].nunique()) for split in SPLITS},
        "labels": {split: _counts(reviews["label"][assigned == split]) for split in SPLITS},
        "shared_texts": {where: len(values) for where, values in texts.items()},
        "shared_films": {where: len(values) for where, values in films.items()} if reviews["film"].notna().any() else None,
    }


def _shared(values: pd.Series, assigned: pd.Series) -> dict[str, set[str]]:
    """What stands in both of two splits, for each two."""
    found = {split: set(values[assigned == split].dropna()) for split in SPLITS}
    return {f"{one}-{other}": found[one] & found[other] for one, other in combinations(SPLITS, 2)}


def _counts(labels: pd.Series) -> dict[str, int]:
    return {str(label): int(count) for label, count in labels.value_counts().sort_index().items()}
