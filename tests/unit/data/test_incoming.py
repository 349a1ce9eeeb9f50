import os
from pathlib import Path

import pytest

from sentiflow.config import params
from sentiflow.data import incoming
from sentiflow.system.errors import InputError

SHIPPED = params.load()


@pytest.fixture
def come_in(tmp_path):
    """Writes files, each newer than the one before, and reads them; values of `drift` and the source by name."""

    def run(files, source="csv", **changes):
        for age, (name, content) in enumerate(files.items()):
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            os.utime(tmp_path / name, (1e9 + age, 1e9 + age))
        how = SHIPPED.drift.model_copy(update=changes)
        return incoming.read(tmp_path, SHIPPED.download.model_copy(update={"source": source}), how)

    return run


def test_no_folder_an_empty_one_and_one_of_other_files_hold_no_reviews(come_in, tmp_path):
    assert incoming.read(tmp_path / "missing", SHIPPED.download, SHIPPED.drift) is None
    assert come_in({}) is None
    assert come_in({"notes.txt": "review\nFine.\n", ".half.csv": "review\nFine.\n"}) is None


def test_newest_reviews_are_read_and_older_ones_left_out(come_in):
    files = {"b.csv": "review\none\ntwo\n", "a.csv": "review\nthree\nfour\n"}
    assert come_in(files).texts.tolist() == ["four", "three", "two", "one"]
    assert not come_in(files).left_out
    found = come_in(files, maximum_reviews=3)
    assert found.texts.tolist() == ["four", "three", "two"]
    assert found.left_out


def test_an_old_file_is_not_even_opened_where_newer_ones_have_enough(come_in):
    found = come_in({"old.csv": "no such column\nx\n", "new.csv": "review\none\ntwo\n"}, maximum_reviews=1)
    assert (found.files, found.left_out, dict(found.passed_over)) == (1, True, {})


def test_labels_may_be_missing_in_a_cell_or_altogether(come_in):
    found = come_in({"a.csv": "review\none\n", "b.csv": "sentiment,review\npositive,two\n ,three\nnegative,four\n"})
    assert found.texts.tolist() == ["four", "three", "two", "one"]
    assert found.labels.tolist() == ["negative", None, "positive", None]


def test_every_row_that_cannot_be_used_is_counted_by_kind_and_the_rest_is_read(come_in):
    rows = [
        b"review,sentiment",
        b"Fine.,positive",
        b",positive",
        b"Dull.,awful",
        b"x,y,z",
        b"\xff\xfe,negative",
        b'"open,positive',
    ]
    found = come_in({"a.csv": b"\n".join([*rows, b"Poor.,negative", b""])})
    assert found.texts.tolist() == ["Poor.", "Fine."]
    assert found.rejects == {
        "quotes do not match": 1,
        "bytes that are not valid in the encoding": 1,
        "wrong number of fields": 1,
        "unknown label": 1,
        "empty text": 1,
    }


def test_a_file_that_cannot_be_read_is_passed_over_with_its_reason(come_in):
    found = come_in(
        {
            "twice.csv": "review,review\none,two\n",
            "empty.csv": "",
            "large.csv": "review\n" + "good " * 100,
            "other.csv": "text\none\n",
            "fine.csv": "review\nFine.\n",
        },
        max_bytes=100,
    )
    assert (found.texts.tolist(), found.files) == (["Fine."], 1)
    assert set(found.passed_over) == {"twice.csv", "empty.csv", "large.csv", "other.csv"}
    assert "more than one column 'review'" in found.passed_over["twice.csv"]
    assert "drift.max_bytes" in found.passed_over["large.csv"]
    assert "no column 'review'" in found.passed_over["other.csv"]
    assert "'text'" in found.passed_over["other.csv"]


def test_where_no_file_can_be_read_the_error_says_why(come_in):
    with pytest.raises(InputError, match=r"no file of .* can be read: a\.csv: it has no column 'review'"):
        come_in({"a.csv": "text\none\n"})


def test_a_tsv_project_takes_tsv_files_as_its_section_says(come_in):
    found = come_in({"a.csv": "review\nFine.\n", "b.tsv": 'label\ttext\n0\tA "so so, film\n'}, source="tsv")
    assert (found.texts.tolist(), found.labels.tolist()) == (['A "so so, film'], ["neutral"])


def test_a_single_file_is_read_whatever_its_name(tmp_path):
    (tmp_path / "reviews").write_text("review\nFine.\n")
    assert incoming.read(tmp_path / "reviews", SHIPPED.download, SHIPPED.drift).texts.tolist() == ["Fine."]


def test_incoming_reviews_are_no_dependency_of_any_stage():
    pipeline = (Path(__file__).parents[3] / "dvc.yaml").read_text(encoding="utf-8")
    assert SHIPPED.drift.incoming not in pipeline
