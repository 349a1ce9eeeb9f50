import os
from pathlib import Path

import pytest

from sentiflow.config import params
from sentiflow.data import incoming
from sentiflow.system.errors import InputError

SHIPPED = params.load()


@pytest.fixture
def read_incoming(tmp_path):
    """Writes files, each newer than the previous one, and reads them with changed settings of `drift`."""

    def run(files, source="csv", **changes):
        for age, (name, content) in enumerate(files.items()):
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            os.utime(tmp_path / name, (1e9 + age, 1e9 + age))
        limits = SHIPPED.drift.model_copy(update=changes)
        return incoming.read(tmp_path, SHIPPED.download.model_copy(update={"source": source}), limits)

    return run


def test_a_folder_that_is_missing_empty_or_without_tables_has_no_reviews(read_incoming, tmp_path):
    assert incoming.read(tmp_path / "missing", SHIPPED.download, SHIPPED.drift) is None
    assert read_incoming({}) is None
    assert read_incoming({"notes.txt": "review\nFine.\n", ".half.csv": "review\nFine.\n"}) is None


def test_only_the_newest_reviews_are_read(read_incoming):
    files = {"b.csv": "review\none\ntwo\n", "a.csv": "review\nthree\nfour\n"}
    assert read_incoming(files).texts.tolist() == ["four", "three", "two", "one"]
    assert not read_incoming(files).left_out
    found = read_incoming(files, maximum_reviews=3)
    assert found.texts.tolist() == ["four", "three", "two"]
    assert found.left_out


def test_an_old_file_is_not_opened_if_newer_ones_have_enough_reviews(read_incoming):
    found = read_incoming({"old.csv": "no such column\nx\n", "new.csv": "review\none\ntwo\n"}, maximum_reviews=1)
    assert (found.files, found.left_out, dict(found.passed_over)) == (1, True, {})


def test_the_label_cell_or_column_may_be_missing(read_incoming):
    found = read_incoming({"a.csv": "review\none\n", "b.csv": "sentiment,review\npositive,two\n ,three\nnegative,four\n"})
    assert found.texts.tolist() == ["four", "three", "two", "one"]
    assert found.labels.tolist() == ["negative", None, "positive", None]


def test_invalid_rows_are_counted_by_kind_and_skipped(read_incoming):
    rows = [
        b"review,sentiment",
        b"Fine.,positive",
        b",positive",
        b"Dull.,awful",
        b"x,y,z",
        b"\xff\xfe,negative",
        b'"open,positive',
    ]
    found = read_incoming({"a.csv": b"\n".join([*rows, b"Poor.,negative", b""])})
    assert found.texts.tolist() == ["Poor.", "Fine."]
    assert found.rejects == {
        "quotes do not match": 1,
        "bytes that are not valid in the encoding": 1,
        "wrong number of fields": 1,
        "unknown label": 1,
        "empty text": 1,
    }


def test_an_unreadable_file_is_skipped_with_the_reason(read_incoming):
    found = read_incoming(
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


def test_if_no_file_can_be_read_the_error_has_the_reasons(read_incoming):
    with pytest.raises(InputError, match=r"no file of .* can be read: a\.csv: it has no column 'review'"):
        read_incoming({"a.csv": "text\none\n"})


def test_a_tsv_project_reads_tsv_files_in_its_format(read_incoming):
    found = read_incoming({"a.csv": "review\nFine.\n", "b.tsv": 'label\ttext\n0\tA "so so, film\n'}, source="tsv")
    assert (found.texts.tolist(), found.labels.tolist()) == (['A "so so, film'], ["neutral"])


def test_a_single_file_is_read_whatever_its_name(tmp_path):
    (tmp_path / "reviews").write_text("review\nFine.\n")
    assert incoming.read(tmp_path / "reviews", SHIPPED.download, SHIPPED.drift).texts.tolist() == ["Fine."]


def test_no_stage_depends_on_incoming_reviews():
    pipeline = (Path(__file__).parents[3] / "dvc.yaml").read_text(encoding="utf-8")
    assert SHIPPED.drift.incoming not in pipeline
