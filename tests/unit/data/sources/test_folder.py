import pytest

from sentiflow.data import sources
from sentiflow.system.errors import InputError


@pytest.fixture
def load(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(texts, **changes):
        for name, text in texts.items():
            (tmp_path / "reviews" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "reviews" / name).write_bytes(text.encode())
        return sources.load(settings("folder", **changes), tmp_path / "partial", seed=7)

    return run


def texts(*parents):
    return {
        f"{parent}/{kind}/any name {n}.text": f"review {n} {parent}"
        for parent in parents
        for kind in ("neg", "pos")
        for n in range(10)
    }


def test_reads_one_folder_per_class_with_any_file_names(load):
    found = load(texts(".") | {"pos/.hidden": "x", "readme.txt": "x"})
    assert found.reviews.label.value_counts().to_dict() == {"negative": 10, "positive": 10}
    assert found.reviews.split.isna().all()


def test_reads_the_splits_from_folder_names(load):
    found = load(texts("train", "test", "other"))
    assert found.reviews.split.value_counts().to_dict() == {"train": 20, "test": 20}


def test_an_unmapped_folder_gives_rejects_and_one_mapped_to_null_is_excluded(load):
    more = texts(".") | {"unsup/1.txt": "x"}
    assert load(more).rejects.reason.str.startswith("unknown label: 'unsup'").all()
    assert load(more, labels={"neg": "negative", "pos": "positive", "unsup": None}).excluded == {"unsup": 1}


def test_a_folder_without_reviews_or_with_a_link_is_an_error(load, tmp_path):
    with pytest.raises(InputError, match=r"reviews contains no reviews; expected files such as reviews/positive/1\.txt"):
        load({})
    with pytest.raises(InputError, match="not a regular file"):
        load(texts("."), **_linked(tmp_path))


def _linked(tmp_path):
    (tmp_path / "reviews/pos").mkdir(parents=True)
    (tmp_path / "reviews/pos/0").symlink_to("/etc/hostname")
    return {}
