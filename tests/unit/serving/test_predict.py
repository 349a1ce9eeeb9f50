"""Files predicted by a small model; the command on a real store is tested in tests/system/test_serving.py."""

import csv
import gzip
import io
import os
import sys
import tracemalloc
from pathlib import Path

import commands
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import reviews

from sentiflow.config import params
from sentiflow.models import sentiment_model
from sentiflow.serving import predict
from sentiflow.system.errors import InputError

LONGEST = 5000
DOWNLOAD = params.load(Path(__file__).parents[3] / "params.yaml").download.model_copy(update={"max_characters": LONGEST})
TEXTS = reviews(7)[0].tolist()


@pytest.fixture
def answered(model, tmp_path):
    """Predicts a file with this content."""

    def run(content, column=None, longest=LONGEST, download=DOWNLOAD, name="reviews.csv"):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        out = tmp_path / "answers.csv"
        result = predict.answer_file(model, file, out, download.model_copy(update={"max_characters": longest}), column=column)
        return result, pd.read_csv(out, dtype="str", keep_default_na=False)

    return run


# predictions for a file


@pytest.mark.parametrize(
    ("name", "content", "section"),
    [
        (
            "r.csv",
            "Kommentar;Label\na caf\u00e9;positive\n".encode("cp1252"),
            {"separator": ";", "encoding": "cp1252"},
        ),
        ("r.csv.gz", gzip.compress("Kommentar,Label\na caf\u00e9,positive\n".encode()), {}),
        ("r.tsv", "Kommentar\tLabel\na caf\u00e9\tpositive\n".encode(), {"separator": "\t", "quote": None}),
        ("r.jsonl", '{"Kommentar": "a caf\u00e9", "Label": 1}\n'.encode(), {}),
        ("r.csv", "a line before\nKommentar,Label\n'a caf\u00e9',positive\n".encode(), {"skip_rows": 1, "quote": "'"}),
        ("r.csv", 'Label, Kommentar\npositive, "a caf\u00e9"\n'.encode(), {}),
        ("r.csv", "positive,a caf\u00e9\n".encode(), {"header": False, "text": 1, "label": 0}),
        ("r.csv", "Kommentar,more\na,caf\u00e9\n".encode(), {"text": ["Kommentar", "more"]}),
    ],
    ids=["cp1252", "gzip", "tabs", "JSON lines", "other quotes", "blank before a quote", "no header", "two columns"],
)
def test_a_file_is_read_in_the_format_of_download(model, answered, name, content, section):
    table = DOWNLOAD.csv.model_copy(update={"text": "Kommentar", "label": "Label"} | section)
    result, found = answered(content, download=DOWNLOAD.model_copy(update={"source": "csv", "csv": table}), name=name)
    assert result.rows == 1
    expected = model.predict(["a\ncaf\u00e9" if isinstance(table.text, list) else "a caf\u00e9"])
    assert found["p_positive"].astype(float).tolist() == expected["p_positive"].tolist()


def test_an_invalid_line_of_json_is_reported(answered):
    with pytest.raises(InputError, match="line 2 is not a JSON object"):
        answered('{"text": "fine"}\nnot one\n', name="r.jsonl")


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_predictions_do_not_depend_on_the_batch_size(model, answered, monkeypatch, rows):
    monkeypatch.setattr(predict, "ROWS", rows)
    result, table = answered(pd.DataFrame({"review": TEXTS}).to_csv(index=False))
    expected = model.predict(TEXTS)
    assert (result.rows, result.empty, result.column) == (7, 0, "review")
    assert list(table) == ["review", "predicted", "p_negative", "p_positive"]
    assert table["predicted"].tolist() == expected["label"].tolist()
    np.testing.assert_array_equal(table[["p_negative", "p_positive"]].astype(float), expected[["p_negative", "p_positive"]])


ODD = pd.DataFrame(
    {
        "": ["0", "1", "2", "3"],
        "text": ['He message "great",\nthen left', "a great; film, really", "", " \u4e2d\u6587 \U0001f600 \0 "],
        "grade": ["007", "1e5", "NA", "1.50"],
        "n o t e": ["", "null", "\r\n", "'"],
    }
)


def test_every_column_is_kept_unchanged(answered, tmp_path):
    result, _ = answered(ODD.to_csv(index=False, lineterminator="\r\n"))
    assert result.column == "text"
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        assert [row[:4] for row in csv.reader(file)] == [list(ODD), *ODD.to_numpy().tolist()]


def test_an_empty_cell_is_predicted_as_an_empty_text_and_counted(model, answered):
    result, table = answered('id,text\n1,\n2," "\n3,great\n')
    assert (result.rows, result.empty) == (3, 2)
    expected = model.predict(["", " ", "great"])
    assert table["predicted"].tolist() == expected["label"].tolist()
    assert table["p_positive"].astype(float).tolist() == expected["p_positive"].tolist()


def test_blank_lines_are_skipped_and_a_header_alone_has_no_predictions(answered):
    result, table = answered("text\ngreat\n\nawful\n\n")
    assert result.rows == 2
    assert table["text"].tolist() == ["great", "awful"]
    result, table = answered("text\n")
    assert result.rows == 0
    assert list(table) == ["text", "predicted", "p_negative", "p_positive"]


def test_a_byte_order_mark_is_not_part_of_the_header(answered):
    result, _ = answered(b"\xef\xbb\xbftext,id\ngreat,1\n")
    assert result.column == "text"


@pytest.mark.parametrize(
    ("header", "column", "chosen"),
    [("id,review", None, "review"), ("whatever", None, "whatever"), ("review,text", "text", "text"), ("id,body", "body", "body")],
)
def test_the_column_is_the_named_one_or_text_or_review_or_the_only_one(answered, header, column, chosen):
    result, _ = answered(f"{header}\n{','.join(['great'] * (header.count(',') + 1))}\n", column)
    assert result.column == chosen


def test_a_column_of_numbers_is_predicted_only_if_named(answered):
    with pytest.raises(InputError, match=r"column 'id' of .* contains numbers, expected texts; name a column with --column"):
        answered("id\n1\n2\n")
    assert answered("id\n1\n2\n", "id")[0].rows == 2
    assert answered("text\n10\n")[0].rows == 1
    assert answered("whatever\n" + '""\n')[0].empty == 1


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.lists(st.text(max_size=9), min_size=2, max_size=2), max_size=5))
def test_any_table_written_by_python_is_read_back(table):
    written = io.StringIO(newline="")
    csv.writer(written).writerows([["id", "text"], *table])
    lines = io.StringIO(written.getvalue(), newline="")
    assert [row for _, row in predict.rows(lines, longest=LONGEST, name="it", written=predict.DEFAULT)] == [
        ["id", "text"],
        *table,
    ]


def test_memory_does_not_grow_with_the_file(model, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "ROWS", 50)

    def most(rows):
        file = tmp_path / f"{rows}.csv"
        file.write_text("text\n" + f"{TEXTS[0]} and more of it\n" * rows)
        tracemalloc.start()
        try:
            predict.answer_file(model, file, tmp_path / "answers.csv", DOWNLOAD, column=None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    most(50)  # caches
    assert most(2000) < 1.5 * most(200)


# invalid files

REFUSED = {
    "nothing": ("", "is empty; expected a header"),
    "blank": ("\n\n", "is empty; expected a header"),
    "latin-1": (b"text\ngreat\nna\xefve\n", r"is not UTF-8 text \(byte 0xef in line \d\); save it as UTF-8"),
    "UTF-16": ("text\ngreat\n".encode("utf-16"), "is UTF-16 text"),
    "too many cells": ("id,text\n1,a\n2,b,c\n", "has 3 cells in line 3, expected 2"),
    "too few cells": ('id,text\n1,"a\nb"\n\n2\n', "has 1 cells in line 5, expected 2"),
    "open quote": ('id,text\n1,a\n2,"b\n3,c\n', "is not valid CSV in the row that begins in line 3: unexpected end of data"),
    "quote within": ('id,text\n1,"a" b\n', "in the row that begins in line 2: .*; expected quotes in pairs"),
    "open quote in a long file": (
        'text\n"a\n' + "b\n" * LONGEST,
        "line 2: a cell has more than 5,000 characters, so a quote",
    ),
    "one endless line": ("text\n" + "b" * 60_000, "the row that begins in line 2 has more than 50,000 characters"),
    "an endless header": ('"a\n",' * 20_000, "the row that begins in line 1 has more than 50,000 characters"),
    "an endless row": ("text\n" + '"a\n",' * 20_000, "the row that begins in line 2 has more than 50,000 characters"),
    "many columns": (",".join(f"c{i}" for i in range(1001)) + "\n", "has 1,001 columns, expected at most 1,000"),
    "twice the same name": ("text,text\na,b\n", "columns of the same name: 'text'"),
    "two that could be": ("text,review,review\na,b,c\n", "columns of the same name: 'review'"),
    "none that could be": ("id,body\n1,b\n", "is ambiguous; name it with --column: 'id', 'body'"),
    "semicolons": ("id;text\n1;b\n", "seems to be separated by ';'"),
    "tabs": ("id\ttext\n1\tb\n", r"seems to be separated by '\\t'"),
    "an answer already": ("text,predicted\na,b\n", "columns named like those of the predictions: 'predicted'; rename them"),
    "probabilities already": ("text,p_positive\na,0.5\n", "columns named like those of the predictions: 'p_positive'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_file_is_an_error_with_its_position_and_nothing_is_written(answered, tmp_path, case):
    content, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        answered(content)
    assert {path.name for path in tmp_path.iterdir()} <= {"reviews.csv"}


def test_a_missing_column_is_an_error_that_lists_the_columns(answered):
    with pytest.raises(InputError, match=r"received --column 'tekst', expected a column of .*: 'id', 'text'"):
        answered("id,text\n1,a\n", "tekst")


def test_an_error_late_in_a_file_keeps_the_previous_predictions(answered, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "ROWS", 2)
    answered("text\nfirst\n")
    before = (tmp_path / "answers.csv").read_bytes()
    with pytest.raises(InputError, match="line 9"):
        answered("id,text\n" + "1,great\n" * 7 + "1,2,3\n")
    assert (tmp_path / "answers.csv").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


CELLS = [
    "<script>document.title='ran'</script><img src=x onerror=alert(1)>",
    "[x](javascript:alert(1)) ![x](http://127.0.0.1:1/x.png) `code`",
    "\x1b]0;title\x07\x1b[2J\u202efine",
    "=HYPERLINK(\"http://127.0.0.1:1/\",A1) +1 -1 @SUM(A1) =cmd|' /C calc'!A0",
    "\x00\x08\x7f\x85\u2028\ufeff\ufffe",
    "e" + "\u0301" * 1000,
    "word" * 1000,
    "",
]


def test_hostile_texts_are_predicted_and_kept_unchanged(model, answered, tmp_path):
    result, table = answered(pd.DataFrame({"text": CELLS}).to_csv(index=False))
    assert (result.rows, result.empty) == (len(CELLS), 1)
    assert table["predicted"].tolist() == model.predict(CELLS)["label"].tolist()
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == CELLS


@pytest.mark.parametrize(
    "name", [b"a\x1b]0;x\x07\n.csv", b"--help.csv", b"$(touch ran)`touch ran`;touch ran.csv", b"\xff\xfe.csv"]
)
def test_a_file_of_any_name_is_predicted_next_to_it(model, tmp_path, name):
    file = tmp_path / os.fsdecode(name)
    file.write_text("text\ngreat\n")
    out = file.with_name(f"{file.stem}.predictions.csv")
    assert predict.answer_file(model, file, out, DOWNLOAD, column=None).rows == 1
    assert {each.name for each in tmp_path.iterdir()} == {file.name, out.name}


def test_symbolic_links_at_the_output_are_not_followed(model, tmp_path):
    """In a folder from elsewhere, the names that predictions are written to may be links to another file."""
    own, sent = tmp_path / "own", tmp_path / "sent"
    own.write_text("precious")
    sent.mkdir()
    (sent / "reviews.csv").write_text("text\ngreat\n")
    out = sent / "reviews.predictions.csv"
    for name in (out.name, f".{out.name}.partial"):
        (sent / name).symlink_to(own)
    assert predict.answer_file(model, sent / "reviews.csv", out, DOWNLOAD, column=None).rows == 1
    assert not out.is_symlink()
    assert own.read_text() == "precious"


# the command


def command(capsys, *arguments):
    status, _, message = commands.run(capsys, "predict", *arguments)
    assert status == 1
    return message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either a text or a file"),
        (["--text", "a", "b.csv"], "expected either a text or a file"),
        (["--text", " \n"], "received no text"),
        (["--text", "a", "--out", "b.csv"], "are options for a file"),
        (["no.csv"], "no.csv is missing; expected a file of reviews"),
        (["src"], "src is not a file; expected a file of reviews"),
        (["README.md", "--out", "src"], "received --out src, which is a folder or a device"),
        (["README.md", "--out", "/dev/null"], "received --out /dev/null, which is a folder or a device"),
        (["/dev/zero"], "/dev/zero is not a file; expected a file of reviews"),
        (["--text", "a" * 1_000_001], "received a text of more than 1,000,000 characters, expected at most that"),
        (["README.md", "--out", "./README.md"], "for both the reviews and --out"),
        (["README.md", "--out", "data/external/a.csv"], "which is in data/external, a path of the stage download"),
        (["README.md", "--out", "models/lstm/a.csv"], "expected another place, such as --out predictions/a.csv"),
        (["README.md", "--out", "metrics/test/a.csv"], "which is in metrics/"),
        (["README.md", "--out", "src/../reports/report.html"], "a path of the stage report"),
    ],
)
def test_invalid_arguments_are_errors_before_any_model_is_opened(capsys, arguments, message):
    err = command(capsys, *arguments)
    assert message in err
    assert err.startswith("error: ")


@pytest.mark.parametrize("made", ["a link", "a hard link", "a folder's link", "working file", "other working file"])
def test_no_name_of_the_input_is_accepted_as_output(capsys, tmp_path, made):
    file, out = tmp_path / "reviews.csv", tmp_path / "link.csv"
    file.write_text("text\na\n")
    if made == "a link":
        out.symlink_to("reviews.csv")
    elif made == "a hard link":
        out.hardlink_to(file)
    elif made == "a folder's link":
        (tmp_path / "folder").symlink_to(".")
        out = tmp_path / "folder/reviews.csv"
    else:  # temporary names of the output
        file = file.rename(tmp_path / (".link.csv.partial" if made == "working file" else ".link.csv.old.partial"))
    message = command(capsys, file, "--out", out)
    assert "for both the reviews and --out" in message
    assert file.read_text() == "text\na\n"


def test_a_pipe_is_refused_without_waiting_for_a_writer(capsys, tmp_path):
    os.mkfifo(tmp_path / "reviews.csv")
    assert "is not a file" in command(capsys, tmp_path / "reviews.csv")


def test_an_endless_standard_input_is_refused(monkeypatch, capsys):
    with Path("/dev/zero").open(encoding="utf-8") as endless:
        monkeypatch.setattr(sys, "stdin", endless)
        assert "received a text of more than 1,000,000 characters" in command(capsys, "--text", "-")


def test_ten_gigabytes_of_zeros_are_refused_after_their_first_bytes(model, tmp_path):
    file = tmp_path / "reviews.csv"
    with file.open("wb") as sparse:
        sparse.truncate(10 * 2**30)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="is not a text file"):
            predict.answer_file(model, file, tmp_path / "answers.csv", DOWNLOAD, column=None)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_while_it_is_read_is_refused(model, tmp_path, monkeypatch):
    """Each prediction adds as many rows as it predicted, so that reading would never end."""
    monkeypatch.setattr(predict, "ROWS", 10)
    file = tmp_path / "reviews.csv"
    file.write_text("text\n" + "fine\n" * 100_000)
    answer = sentiment_model.SentimentModel.predict

    def and_grow(self, texts):
        with file.open("a") as more:
            more.write("fine\n" * len(texts))
        return answer(self, texts)

    monkeypatch.setattr(sentiment_model.SentimentModel, "predict", and_grow)
    with pytest.raises(InputError, match="changed while it was read; wait until it is complete, then run again"):
        predict.answer_file(model, file, tmp_path / "answers.csv", DOWNLOAD, column=None)
    assert not (tmp_path / "answers.csv").exists()
