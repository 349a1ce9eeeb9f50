import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.config.params import Split
from sentiflow.data import splits
from sentiflow.system.errors import InputError

METHODS = ("stratified", "official", "hash")
reproducibly = settings(max_examples=30, deadline=None, derandomize=True, database=None)


def config(method="stratified", *, valid=0.2, test=0.2, keep_films_together=False, leave_out_conflicts=False):
    together = {"keep_films_together": keep_films_together}
    return Split(method=method, valid=valid, test=test, leave_out_conflicts=leave_out_conflicts, **together)


def corpus(copies, *, films=None, groups=None, seed=0):
    """As many copies of each text as given, in random order; half of the texts positive, a third in the official test split."""
    rows = [
        {
            "text": f"review {i}",
            "label": "positive" if i % 2 else "negative",
            "split": "test" if i % 3 == 0 else "train",
            "film": None if films is None else f"film {i // 2 % films}",
            "group": None if groups is None else f"group {i // 2 % groups}",
            "source": "csv",
        }
        for i, count in enumerate(copies)
        for _ in range(count)
    ]
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=seed, ignore_index=True)
    return shuffled.astype("str")


def with_rows(reviews, **columns):
    """The reviews followed by rows with these columns."""
    return pd.concat([reviews, pd.DataFrame(columns).assign(source="csv").astype("str")], ignore_index=True)


def where(values, assigned):
    """The splits of each value."""
    kept = assigned != splits.LEFT_OUT
    return assigned[kept].groupby(values[kept]).agg(set)


many_copies = st.lists(st.integers(1, 6), min_size=80, max_size=120)
seeds = st.integers(0, 2**32 - 1)


# texts and films


@pytest.mark.parametrize("method", METHODS)
@reproducibly
@given(copies=many_copies, seed=seeds)
def test_no_text_is_in_two_splits_and_none_is_lost(method, copies, seed):
    reviews = corpus(copies, seed=seed % 1000)
    assigned = splits.assign(reviews, config(method), seed=seed)
    assert assigned.index.equals(reviews.index)
    assert set(assigned) <= {*splits.SPLITS, splits.LEFT_OUT}
    assert (where(reviews["text"], assigned).map(len) == 1).all()
    assert method == "official" or splits.LEFT_OUT not in set(assigned)
    assert all(set(reviews["label"][assigned == split]) == {"negative", "positive"} for split in splits.SPLITS)


@pytest.mark.parametrize("method", METHODS)
@reproducibly
@given(seed=seeds)
def test_no_film_is_in_two_splits_if_configured(method, seed):
    reviews = corpus(np.random.default_rng(seed).integers(1, 4, 200), films=40)
    reviews["split"] = np.where(reviews["film"].str.endswith(("1", "4", "7")), "test", "train")
    assigned = splits.assign(reviews, config(method, valid=0.3, test=0.3, keep_films_together=True), seed=seed)
    assert (where(reviews["film"], assigned).map(len) == 1).all()
    assert (where(reviews["text"], assigned).map(len) == 1).all()


def test_films_that_share_a_text_stay_together():
    reviews = corpus([1] * 200, films=50)
    reviews = with_rows(reviews, text="a remake", label="positive", film=["film 0", "film 1", "film 2"])
    for seed in range(5):
        assigned = splits.assign(reviews, config(keep_films_together=True), seed=seed)
        assert assigned[reviews["film"].isin(["film 0", "film 1", "film 2"])].nunique() == 1


def test_reviews_without_a_film_are_not_one_film():
    reviews = corpus([1] * 200, films=50)
    reviews.loc[::2, "film"] = None
    assigned = splits.assign(reviews, config(keep_films_together=True), seed=1)
    assert set(assigned[reviews["film"].isna()]) == {"train", "valid", "test"}
    assert (where(reviews["film"], assigned).map(len) == 1).all()


def test_films_may_be_in_two_splits_by_default():
    reviews = corpus([1] * 200, films=10)
    assert (where(reviews["film"], splits.assign(reviews, config(), seed=1)).map(len) > 1).any()


# sizes of the splits


def test_fractions_are_exact_without_copies():
    reviews = corpus([1] * 200)
    assigned = splits.assign(reviews, config(valid=0.1, test=0.25), seed=3)
    counts = pd.crosstab(reviews["label"], assigned)
    assert counts.loc["negative"].to_dict() == counts.loc["positive"].to_dict() == {"test": 25, "train": 65, "valid": 10}


@reproducibly
@given(copies=many_copies, seed=seeds, valid=st.sampled_from([0.1, 0.2, 0.3]), test=st.sampled_from([0.1, 0.25, 0.4]))
def test_fractions_of_each_label_are_exact_up_to_one_group(copies, seed, valid, test):
    reviews = corpus(copies)
    assigned = splits.assign(reviews, config(valid=valid, test=test), seed=seed)
    for label in ("negative", "positive"):
        of_label = assigned[reviews["label"] == label]
        for split, fraction in {"valid": valid, "test": test, "train": 1 - valid - test}.items():
            assert abs((of_label == split).sum() - fraction * len(of_label)) <= max(copies)


def test_a_rare_label_has_the_same_fraction_in_every_split():
    reviews = corpus([1] * 1000)
    reviews["label"] = np.where(np.arange(1000) % 10 == 0, "rare", "common")
    assigned = splits.assign(reviews, config(valid=0.1, test=0.2), seed=5)
    assert (reviews["label"] == "rare").groupby(assigned).mean().to_dict() == {"test": 0.1, "train": 0.1, "valid": 0.1}


@pytest.mark.parametrize("method", ["stratified", "hash"])
def test_three_labels_are_split_like_two(method):
    reviews = corpus([1, 2] * 150)
    reviews["label"] = reviews["text"].str.split().str[1].astype(int).mod(3).map({0: "a", 1: "b", 2: "c"})
    assigned = splits.assign(reviews, config(method), seed=1)
    assert all(set(reviews["label"][assigned == split]) == {"a", "b", "c"} for split in splits.SPLITS)


def test_copies_with_different_labels_are_in_one_split():
    reviews = corpus([1] * 100)
    reviews = with_rows(reviews, text="so so", label=["negative", "positive", "positive"])
    for seed in range(5):
        assert splits.assign(reviews, config(), seed=seed)[reviews["text"] == "so so"].nunique() == 1


def by_definition(reviews, config, seed):
    """The stratified method, one group at a time: the label of a group is its mode, the first by name if tied."""
    keys = splits.digest(reviews["text"])
    groups = [(key, of_group.mode().iloc[0], len(of_group)) for key, of_group in reviews["label"].groupby(keys)]
    total = Counter()
    for _, label, size in groups:
        total[label] += size
    before, split_of = Counter(), {}
    for place in np.random.default_rng(seed).permutation(len(groups)):
        key, label, size = groups[place]
        middle = (before[label] + size / 2) / total[label]
        split_of[key] = "test" if middle < config.test else "valid" if middle < config.test + config.valid else "train"
        before[label] += size
    return keys.map(split_of)


@reproducibly
@given(seed=seeds)
def test_groups_whose_labels_are_tied_are_split_by_the_first_label_by_name(seed):
    draw = np.random.default_rng(seed)
    texts = [f"review {number}" for number in draw.integers(0, 120, 400)]  # 3 copies each on average, so there are many ties
    reviews = pd.DataFrame({"text": texts, "label": draw.choice(["c", "a", "b"], 400), "group": None}).astype("str")
    assigned = splits.assign(reviews, config(valid=0.25, test=0.25), seed=seed)
    pd.testing.assert_series_equal(assigned, by_definition(reviews, config(valid=0.25, test=0.25), seed), check_names=False)


# determinism


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_splits(method):
    reviews = corpus([1, 3] * 60)
    first, again = (splits.assign(reviews, config(method), seed=11) for _ in range(2))
    pd.testing.assert_series_equal(first, again)


@pytest.mark.parametrize(("method", "changes"), [("stratified", True), ("official", True), ("hash", False)])
def test_another_seed_gives_other_splits_except_by_hash(method, changes):
    reviews = corpus([1] * 120)
    one, other = (splits.assign(reviews, config(method), seed=seed) for seed in (1, 2))
    assert (one != other).any() == changes


@pytest.mark.parametrize("method", METHODS)
def test_a_texts_split_does_not_depend_on_the_order_of_the_rows(method):
    reviews = corpus([1, 3] * 60)
    shuffled = reviews.sample(frac=1, random_state=9)
    assigned = splits.assign(reviews, config(method), seed=11)
    pd.testing.assert_series_equal(splits.assign(shuffled, config(method), seed=11).sort_index(), assigned)


@pytest.mark.parametrize("method", METHODS)
def test_the_input_is_not_modified(method):
    reviews = corpus([1, 3] * 60, films=30)
    before = reviews.copy()
    splits.assign(reviews, config(method), seed=11)
    pd.testing.assert_frame_equal(reviews, before)


# hash


@reproducibly
@given(added=st.lists(st.text(max_size=20), max_size=60), copied=st.lists(st.integers(0, 199), max_size=60), seed=seeds)
def test_by_hash_a_text_keeps_its_split_when_rows_are_added(added, copied, seed):
    reviews = corpus([1] * 200)
    before = dict(zip(reviews["text"], splits.assign(reviews, config("hash"), seed=1), strict=True))
    texts = [*added, *(f"review {i}" for i in copied)]
    more = with_rows(reviews, text=texts, label="positive")
    after = splits.assign(more, config("hash"), seed=seed)
    assert all(split == before[text] for text, split in zip(more["text"], after, strict=True) if text in before)


def test_by_hash_a_text_keeps_its_split_across_versions_of_this_code():
    """The first 52 bits of the SHA-256 of the text are its position: test, then valid, then train."""
    reviews = corpus([1] * 200)
    assigned = splits.assign(reviews, config("hash", valid=0.2, test=0.3), seed=1)
    known = dict(zip(reviews["text"], assigned, strict=True))
    for text, split in known.items():
        place = int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 2**52
        assert split == ("test" if place < 0.3 else "valid" if place < 0.5 else "train")
    assert [known[f"review {i}"] for i in range(6)] == ["train", "test", "test", "train", "test", "train"]


def test_by_hash_fractions_are_approximate():
    assigned = splits.assign(corpus([1] * 4000), config("hash", valid=0.1, test=0.2), seed=1)
    shares = assigned.value_counts(normalize=True)
    assert shares["valid"] == pytest.approx(0.1, abs=0.02)
    assert shares["test"] == pytest.approx(0.2, abs=0.02)


def test_by_hash_fractions_of_films_are_approximate():
    reviews = corpus([1] * 4000, films=500)  # 8 reviews per film
    assigned = splits.assign(reviews, config("hash", valid=0.1, test=0.2, keep_films_together=True), seed=1)
    shares = assigned[~reviews["film"].duplicated()].value_counts(normalize=True)
    assert shares["valid"] == pytest.approx(0.1, abs=0.05)
    assert shares["test"] == pytest.approx(0.2, abs=0.05)


def test_by_hash_a_smaller_fraction_moves_no_text_into_test():
    reviews = corpus([1] * 400)
    large, small = (splits.assign(reviews, config("hash", test=test), seed=1) for test in (0.3, 0.2))
    assert set(reviews.index[small == "test"]) < set(reviews.index[large == "test"])


# official


@reproducibly
@given(copies=many_copies, moved=st.lists(st.integers(0, 79), min_size=1, max_size=30, unique=True), seed=seeds)
def test_official_keeps_the_test_split_and_excludes_its_copies_from_training(copies, moved, seed):
    reviews = corpus(copies)
    halves = ["train", "test"]
    in_both = reviews["text"].isin([f"review {i}" for i in moved])
    reviews.loc[in_both, "split"] = [halves[i % 2] for i in range(in_both.sum())]
    assigned = splits.assign(reviews, config("official"), seed=seed)

    in_test = reviews["split"] == "test"
    assert (assigned[in_test] == "test").all()
    assert not (assigned[~in_test] == "test").any()
    copied = ~in_test & reviews["text"].isin(reviews["text"][in_test])
    assert ((assigned == splits.LEFT_OUT) == copied).all()


def test_official_draws_valid_from_train_and_ignores_the_test_fraction():
    reviews = corpus([1] * 300)
    counts = splits.assign(reviews, config("official", valid=0.1, test=0.5), seed=1).value_counts()
    assert counts.to_dict() == {"train": 180, "valid": 20, "test": 100}


def test_official_uses_the_valid_split_of_the_source():
    reviews = corpus([1] * 300)
    reviews["split"] = np.array(["train", "train", "valid", "train", "test"])[np.arange(300) % 5]
    for seed in range(3):
        pd.testing.assert_series_equal(
            splits.assign(reviews, config("official", valid=0.4), seed=seed), reviews["split"], check_names=False
        )


def test_official_excludes_copies_from_train_and_valid_but_never_from_test():
    reviews = corpus([1] * 60)
    reviews["split"] = np.array(["train", "valid", "test"])[np.arange(60) % 3]
    reviews = with_rows(
        reviews,
        text=["in all"] * 3 + ["in train and valid"] * 2 + ["in valid and test"] * 2 + ["twice in train"] * 2,
        label="positive",
        split=["train", "valid", "test", "train", "valid", "valid", "test", "train", "train"],
    )
    assigned = splits.assign(reviews, config("official"), seed=1)
    out = splits.LEFT_OUT
    assert assigned.tolist()[60:] == [out, out, "test", out, "valid", out, "test", "train", "train"]
    assert (assigned[:60] == reviews["split"][:60]).all()


@reproducibly
@given(seed=seeds, has_valid=st.booleans())
def test_official_excludes_groups_of_other_splits_from_training(seed, has_valid):
    reviews = corpus(np.random.default_rng(seed).integers(1, 3, 240), groups=90, seed=seed % 1000)
    reviews["split"] = np.random.default_rng(seed).choice(
        ["train", "train", "valid" if has_valid else "train", "test"], len(reviews)
    )
    assigned = splits.assign(reviews, config("official"), seed=seed)
    assert (where(reviews["group"], assigned).map(len) == 1).all()
    assert (assigned[reviews["split"] == "test"] == "test").all()
    alone = ~reviews["group"].isin(reviews["group"][reviews["split"].isin(["valid", "test"])])
    assert (assigned[alone & (reviews["split"] == "train")] != splits.LEFT_OUT).all()


OFFICIAL = r"^split\.method is official, but the source has no "


@pytest.mark.parametrize(
    ("half", "lacks"),
    [
        (None, "official train and test splits"),
        ("train", "test split, only 100 in train"),
        ("test", "train split, only 100 in test"),
    ],
)
@pytest.mark.parametrize(
    ("source", "action"),
    [
        ("tsv", "set download.tsv.split to the column with train and test, or use one file per split as the location; or "),
        ("aclimdb", ""),
    ],
)
def test_official_without_train_or_test_is_an_error_that_says_what_to_set(half, lacks, source, action):
    reviews = corpus([1] * 100).assign(source=source)
    reviews["split"] = pd.Series([half] * 100, dtype="str")
    with pytest.raises(InputError, match=f"{OFFICIAL}{lacks}; {action}choose stratified or hash in params.yaml$"):
        splits.assign(reviews, config("official"), seed=1)


def test_official_with_reviews_in_no_split_is_an_error():
    reviews = corpus([1] * 100)
    reviews.loc[:6, "split"] = None
    message = r"7 of the 100 reviews are not in train, valid or test; complete the column download\.csv\.split, or"
    with pytest.raises(InputError, match=message):
        splits.assign(reviews, config("official"), seed=1)


# groups


@pytest.mark.parametrize("method", METHODS)
@reproducibly
@given(seed=seeds)
def test_no_group_is_in_two_splits(method, seed):
    reviews = corpus(np.random.default_rng(seed).integers(1, 4, 200), groups=60)
    reviews["split"] = np.where(reviews["group"].str.endswith(("1", "4", "7")), "test", "train")
    assigned = splits.assign(reviews, config(method, valid=0.3, test=0.3), seed=seed)
    assert (where(reviews["group"], assigned).map(len) == 1).all()
    assert (where(reviews["text"], assigned).map(len) == 1).all()
    assert splits.LEFT_OUT not in set(assigned)


@pytest.mark.parametrize("method", ["stratified", "hash"])
def test_groups_that_share_a_text_stay_together(method):
    reviews = with_rows(corpus([1] * 400, groups=100), text="phrase", label="positive", group=[f"group {i}" for i in range(5)])
    reviews = with_rows(
        reviews, text=["other", "other", "third", "third"], label="positive", group=["group 5", None, "group 6", "group 5"]
    )
    for seed in range(4):
        assigned = splits.assign(reviews, config(method), seed=seed)
        assert assigned[reviews["group"].isin([f"group {i}" for i in range(5)])].nunique() == 1
        assert assigned[reviews["group"].isin(["group 5", "group 6"]) | (reviews["text"] == "other")].nunique() == 1


def test_reviews_without_a_group_are_not_one_group():
    reviews = corpus([1] * 200, groups=60)
    reviews.loc[::2, "group"] = None
    assigned = splits.assign(reviews, config(), seed=1)
    assert set(assigned[reviews["group"].isna()]) == {"train", "valid", "test"}
    assert (where(reviews["group"], assigned).map(len) == 1).all()


def test_a_text_equal_to_the_name_of_a_group_is_not_in_it():
    reviews = corpus([1] * 200, groups=60)
    others = with_rows(reviews, text=[f"group {i}" for i in range(60)], label="negative")
    assigned = splits.assign(others, config("hash"), seed=1)
    group_splits = assigned[:200].groupby(reviews["group"]).first()
    assert (assigned[200:].to_numpy() != group_splits.reindex(others["text"][200:]).to_numpy()).any()


def test_by_hash_a_group_keeps_its_split_when_rows_are_added_to_it():
    reviews = corpus([1] * 200, groups=60)
    before = splits.assign(reviews, config("hash"), seed=1)
    more = with_rows(
        reviews, text=[f"more {i}" for i in range(300)], label="positive", group=[f"group {i % 90}" for i in range(300)]
    )
    after = splits.assign(more, config("hash"), seed=1)
    pd.testing.assert_series_equal(after[:200], before)


# conflicts


@pytest.mark.parametrize("method", METHODS)
def test_texts_with_several_labels_are_excluded_if_configured(method):
    labels = ["negative", "positive", "positive", "negative", "negative"]
    halves = ["train", "test", "train", "train", "test"]
    reviews = with_rows(corpus([1, 2] * 60), text=["so so"] * 3 + ["dull"] * 2, label=labels, split=halves)
    assigned = splits.assign(reviews, config(method, leave_out_conflicts=True), seed=1)
    assert (assigned[reviews["text"] == "so so"] == splits.LEFT_OUT).all()
    assert (assigned[reviews["text"] == "dull"] != splits.LEFT_OUT).any()
    proof = splits.prove(reviews, assigned, config(method, leave_out_conflicts=True))
    assert proof["left_out_conflicts"] == 3
    assert set(proof["texts_with_conflicting_labels"].values()) == {0}
    kept = splits.assign(reviews, config(method), seed=1)
    assert method == "official" or splits.LEFT_OUT not in set(kept)
    assert splits.prove(reviews, kept, config(method))["left_out_conflicts"] == 0


def test_excluding_all_reviews_of_a_label_is_an_error():
    reviews = with_rows(corpus([1] * 100), text=["so so"] * 12, label=["neutral"] * 11 + ["negative"])
    message = (
        r"split\.leave_out_conflicts is true, and the texts of all 11 reviews labelled neutral also have another label.*"
        r"map that label to null in download\.csv\.labels, or set it to false"
    )
    with pytest.raises(InputError, match=message):
        splits.assign(reviews, config(leave_out_conflicts=True), seed=1)


# errors


def test_keep_films_together_without_films_is_an_error_that_says_what_to_set():
    message = (
        r"split\.keep_films_together is true.*has no films.*set it to false in params\.yaml"
        r", and download\.csv\.group to the column whose rows belong together$"
    )
    with pytest.raises(InputError, match=message):
        splits.assign(corpus([1] * 100), config(keep_films_together=True), seed=1)
    with pytest.raises(InputError, match=r"set it to false in params\.yaml$"):
        splits.assign(corpus([1] * 100).assign(source="imdb"), config(keep_films_together=True), seed=1)


@pytest.mark.parametrize("method", METHODS)
def test_too_few_reviews_are_an_error_with_the_split_and_the_missing_label(method):
    with pytest.raises(InputError, match=r"(train|valid|test) would have \d+ reviews and none labelled .*, of 6 in total"):
        splits.assign(corpus([1] * 6), config(method, valid=0.05, test=0.05), seed=1)


@pytest.mark.parametrize("texts", [1, 2])
def test_a_label_of_copies_is_an_error_with_the_number_of_texts(texts):
    reviews = corpus([1] * 100)
    positive = reviews["label"] == "positive"
    reviews.loc[positive, "text"] = [f"all the same {i % texts}" for i in range(positive.sum())]
    message = (
        rf"none labelled positive, of 100 in total; 50 reviews labelled positive are copies of {texts} texts?; a label needs at "
        r"least 3 distinct texts or groups, one per split \(about 5 if a split has a fraction of 0\.2\); add more, "
        r"or map that label to null in download\.csv\.labels$"
    )
    with pytest.raises(InputError, match=message):
        splits.assign(reviews, config(), seed=1)
    with pytest.raises(InputError, match=r"add more$"):
        splits.assign(reviews.assign(source="imdb"), config(), seed=1)


def test_a_label_with_as_many_distinct_texts_as_the_message_says_is_split():
    reviews = with_rows(corpus([1] * 100), text=[f"so so {i % 5}" for i in range(50)], label="neutral")
    assigned = splits.assign(reviews, config(valid=0.2, test=0.2), seed=1)
    assert set(assigned[reviews["label"] == "neutral"]) == set(splits.SPLITS)


def test_a_label_of_one_group_is_an_error():
    reviews = corpus([1] * 100)
    reviews.loc[reviews["label"] == "positive", "group"] = "one product"
    with pytest.raises(InputError, match="50 reviews labelled positive belong to 1 group that must stay together; a label needs"):
        splits.assign(reviews, config(), seed=1)


def test_an_official_split_without_a_label_is_an_error_that_suggests_another_method():
    reviews = corpus([1] * 100)
    reviews["split"] = reviews["label"].map({"positive": "train", "negative": "test"})
    with pytest.raises(InputError, match=r"none labelled negative, .*add some to each split, or choose stratified or hash"):
        splits.assign(reviews, config("official"), seed=1)


# digest


def test_a_digest_is_the_sha_256_of_the_text_in_utf_8():
    texts = pd.Series(["caf\u00e9", "", "caf\u00e9"], index=[5, 6, 7])
    digests = splits.digest(texts)
    assert digests.to_dict() == {place: hashlib.sha256(text.encode("utf-8")).hexdigest() for place, text in texts.items()}


# prove


@pytest.fixture
def planted():
    reviews = pd.DataFrame(
        {
            "text": ["a", "b", "c", "d", "a", "e", "f"],
            "label": ["pos", "neg", "pos", "neg", "pos", "neg", "pos"],
            "film": ["x", "y", None, "z", "x", None, None],
            "group": ["1", "2", None, "3", "1", None, "4"],
        }
    )
    return reviews, pd.Series(["train", "train", "valid", "test", "train", "left_out", "test"])


def test_the_proof_counts_rows_texts_labels_and_overlaps(planted):
    assert splits.prove(*planted, config(keep_films_together=True)) == {
        "rows": {"train": 3, "valid": 1, "test": 2},
        "left_out": 1,
        "left_out_conflicts": 0,
        "distinct_texts": {"train": 2, "valid": 1, "test": 2},
        "surplus_copies": {"train": 1, "valid": 0, "test": 0},
        "texts_with_conflicting_labels": {"train": 0, "valid": 0, "test": 0},
        "rows_with_conflicting_labels": {"train": 0, "valid": 0, "test": 0},
        "labels": {"train": {"neg": 1, "pos": 2}, "valid": {"pos": 1}, "test": {"neg": 1, "pos": 1}},
        "shared_texts": {"train-valid": 0, "train-test": 0, "valid-test": 0},
        "shared_films": {"train-valid": 0, "train-test": 0, "valid-test": 0},
        "shared_groups": {"train-valid": 0, "train-test": 0, "valid-test": 0},
    }


@pytest.mark.parametrize(("row", "other", "place"), [(0, 3, "train-test"), (0, 2, "train-valid"), (2, 6, "valid-test")])
def test_the_proof_fails_on_a_text_in_two_splits(planted, row, other, place):
    reviews, assigned = planted
    reviews.loc[other, "text"] = reviews.loc[row, "text"]
    text = hashlib.sha256(reviews.loc[row, "text"].encode()).hexdigest()
    with pytest.raises(InputError, match=rf"1 texts are in two splits, {place}, such as {text}; nothing was written"):
        splits.prove(reviews, assigned, config())


def test_the_proof_fails_on_a_film_in_two_splits_if_configured_and_else_counts_it(planted):
    reviews, assigned = planted
    reviews.loc[3, "film"] = "x"
    with pytest.raises(InputError, match=r"1 films are in two splits, train-test, such as x; nothing was written"):
        splits.prove(reviews, assigned, config(keep_films_together=True))
    proof = splits.prove(reviews, assigned, config())
    assert proof["shared_films"] == {"train-valid": 0, "train-test": 1, "valid-test": 0}


def test_the_proof_fails_on_a_group_in_two_splits(planted):
    reviews, assigned = planted
    reviews.loc[3, "group"] = "2"
    with pytest.raises(InputError, match=r"1 groups are in two splits, train-test, such as 2; nothing was written"):
        splits.prove(reviews, assigned, config())


def test_the_proof_counts_texts_with_several_labels_in_texts_and_in_reviews(planted):
    reviews, assigned = planted
    reviews.loc[4, "label"] = "neg"
    proof = splits.prove(reviews, assigned, config())
    assert proof["texts_with_conflicting_labels"] == {"train": 1, "valid": 0, "test": 0}
    assert proof["rows_with_conflicting_labels"] == {"train": 2, "valid": 0, "test": 0}


def test_an_excluded_copy_is_not_an_overlap(planted):
    reviews, assigned = planted
    reviews.loc[5, ["text", "film", "group"]] = ["d", "z", "3"]
    assert splits.prove(reviews, assigned, config(keep_films_together=True))["left_out"] == 1


def test_the_proof_has_no_counts_of_films_or_groups_without_any(planted):
    reviews, assigned = planted
    assert splits.prove(reviews.assign(group=None), assigned, config())["shared_groups"] is None
    assert splits.prove(reviews.assign(film=None), assigned, config())["shared_films"] is None


@pytest.mark.parametrize("method", METHODS)
def test_every_assignment_passes_the_proof(method):
    reviews = corpus([1, 2, 3] * 60, films=60, groups=30)
    reviews["split"] = np.where(reviews["film"].str.endswith(("1", "4", "7")), "test", "train")
    assigned = splits.assign(reviews, config(method, keep_films_together=True), seed=1)
    proof = splits.prove(reviews, assigned, config(keep_films_together=True))
    assert sum(proof["rows"].values()) + proof["left_out"] == len(reviews)
    assert set(proof["shared_texts"].values()) == set(proof["shared_films"].values()) == {0}
