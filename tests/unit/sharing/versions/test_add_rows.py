"""Add rows to the project's own file: all or none, without changes to existing lines."""

import re
from pathlib import Path

import pandas as pd
import pytest
import sources

from sentiflow.config import params
from sentiflow.data import normal_form
from sentiflow.data.sources import package, tables
from sentiflow.sharing.versions import add as adding
from sentiflow.sharing.versions.add import Added, Format
from sentiflow.system.errors import InputError

OWN, NEW = Path("own.csv"), Path("new.csv")
LABELS = {"negative": "negative", "positive": "positive", "pos": "positive"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def csv_format(**changed):
    written = tables.PLAIN.model_dump() | {"location": str(OWN), "sha256": None, "text": "review", "label": "label"}
    section = params.TableSource.model_validate(written | {"split": None, "group": None, "labels": LABELS} | changed)
    return Format(section, max_characters=100, key="download.csv")


def tsv_format(**changed):
    return csv_format(**{"separator": "\t", "quote": None, "header": False, "text": 1, "label": 0} | changed)


def add(own, new, layout=None, *, skip_rejected=False):
    OWN.write_bytes(own.encode(layout.section.encoding if layout else "utf-8") if isinstance(own, str) else own)
    NEW.write_bytes(new.encode(layout.section.encoding if layout else "utf-8") if isinstance(new, str) else new)
    return adding.add_rows(OWN, layout or csv_format(), NEW, name="new.csv", skip_rejected=skip_rejected)


def test_rows_are_appended_and_existing_lines_are_unchanged():
    own = 'review,label\n"A, b",negative\n'
    assert add(own, "review,label\nC.,positive\n") == Added(rows=1, copies=0, rejected=0, total=2)
    assert OWN.read_text() == own + "C.,positive\n"


@pytest.mark.parametrize(
    ("own", "end"),
    [
        ("review,label\r\nA.,negative\r\n", "\r\n"),
        ("review,label\nA.,negative", "\n"),
        ('"review","label"\n"A.","negative"\n', '"\n'),
        ("\ufeffreview,label\nA.,negative\n", "\n"),
    ],
    ids=["Windows line ends", "no newline at the end", "quotes around every field", "byte order mark"],
)
def test_new_rows_have_the_format_of_the_file(own, end):
    text = 'Two\nlines, a comma, a lone \r and a "quote".'
    quoted = '"' + text.replace('"', '""') + '"'
    add(own, f"review,label\n{quoted},positive\n")
    written = OWN.read_bytes().decode()
    assert written.startswith(own)
    assert written.endswith(end)
    assert written.count("\ufeff") == own.count("\ufeff")
    assert written.endswith(('"positive"' if own.startswith('"') else "positive") + end.removeprefix('"'))
    table, _ = csv_format().read(OWN, OWN.name)
    assert [record.fields for record in table.records] == [["A.", "negative"], [text, "positive"]]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_the_file_keeps_its_encoding(encoding):
    layout = csv_format(encoding=encoding, separator=";")
    add("review;label\nÀ.;negative\n", "review;label\nÉ.;positive\n", layout)
    assert OWN.read_bytes().decode(encoding) == "review;label\nÀ.;negative\nÉ.;positive\n"


def test_a_tsv_file_without_header_and_quotes_stays_without():
    add('negative\t"A.\n', 'positive\t5" of B.\n', tsv_format())
    assert OWN.read_text() == 'negative\t"A.\npositive\t5" of B.\n'


def test_columns_are_reordered_and_missing_ones_stay_empty():
    add("id,label,review\n1,negative,A.\n", "review,label\nB.,positive\n")
    assert OWN.read_text().splitlines()[-1] == ",positive,B."
    with pytest.raises(InputError, match="has columns that are missing from the reviews file: 'stars'"):
        add("review,label\nA.,negative\n", "review,label,stars\nB.,positive,5\n")


def test_copies_that_differ_in_markup_case_and_spacing_are_left_out():
    new = "review,label\nA film!,negative\n<b>a  FILM!</b>,negative\nB.,pos\nb.,positive\n"
    assert add("review,label\nA film!,negative\n", new) == Added(rows=1, copies=3, rejected=0, total=2)
    assert OWN.read_text().splitlines()[1:] == ["A film!,negative", "B.,pos"]


def test_texts_with_another_label_are_listed_and_none_is_added():
    own = "review,label\nA film!,negative\n"
    with pytest.raises(InputError) as refused:
        add(own, "review,label\nC.,negative\na film!,positive\nD.,negative\nD.,positive\n")
    assert OWN.read_text() == own
    message = str(refused.value)
    assert message.startswith("2 texts of new.csv have another label in the file, or twice in new.csv, so none was added:\n")
    assert "line 3: labelled positive here, negative elsewhere: 'a film!'" in message
    assert "line 5: labelled positive here, negative elsewhere: 'D.'" in message


BAD = (
    'review,label\nC.,posotive\n,negative\nD.,\nE.\n"' + "x" * 101 + '",negative\nF\x00.,negative\nG.,positive\nH "h.,negative\n'
)


def test_unusable_rows_are_listed_with_the_reason_and_none_is_added():
    own = "review,label\nA.,negative\n"
    with pytest.raises(InputError) as refused:
        add(own, BAD.encode() + b"\xff\xfe.,negative\n")
    assert OWN.read_text() == own
    message = str(refused.value)
    for line, reason in {
        2: "unknown label",
        3: "empty text",
        4: "missing label",
        5: "wrong number of fields",
        6: "text longer than 100 characters",
        7: "NUL byte",
        10: "bytes that are not valid",
    }.items():
        assert re.search(rf"^  line {line}: {reason}", message, re.MULTILINE), (line, message)
    assert "line 8:" not in message
    assert "--skip-rejected" in message


def test_skip_rejected_leaves_out_unusable_rows():
    added = add("review,label\nA.,negative\n", BAD, skip_rejected=True)
    assert (added.rows, added.copies, added.total) == (2, 0, 3)
    assert added.rejected == 6
    assert OWN.read_text().endswith("G.,positive\n" + '"H ""h.",negative\n')


def test_a_long_list_of_unusable_rows_is_written_to_a_file():
    with pytest.raises(InputError, match=r"and 10 more: \.cache/add_reviews\.csv lists all"):
        add("review,label\nA.,negative\n", "review,label\n" + "C.,posotive\n" * 30)
    assert pd.read_csv(adding.LISTING)["line"].tolist() == list(range(2, 32))


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("", "is empty"),
        ("review,label\n", "has no rows"),
        ("review;label\nC.;positive\n", "no column 'review', which download.csv.text"),
        ("text,label\nC.,positive\n", "no column 'review'"),
    ],
)
def test_a_file_that_is_not_a_table_of_reviews_is_refused(new, message):
    with pytest.raises(InputError, match=message):
        add("review,label\nA.,negative\n", new)


def test_an_open_quote_at_the_end_of_the_file_hides_no_new_row():
    own = 'review,label\nA.,negative\n"B,negative\n'
    assert add(own, 'review,label\n"C, c",positive\n').rows == 1
    assert csv_format().read(OWN, OWN.name)[0].records[-1].fields == ["C, c", "positive"]
    with pytest.raises(InputError, match="a quote in its last rows may be left open"):
        add(own, 'review,label\n",negative",positive\n')


# --- target file ---------------------------------------------------------------------------------------------------------


def wanted(chosen, **section):
    return adding.target(sources.settings(chosen, **section).download)


def test_rows_are_added_to_the_file_in_params():
    assert wanted("csv", location="data/external/./own.csv") == Path("data/external/own.csv")
    assert wanted("tsv", location="data/external/own.tsv") == Path("data/external/own.tsv")


@pytest.mark.parametrize(
    ("chosen", "section", "message"),
    [
        ("package", {}, r"--start`"),
        ("aclimdb", {}, "put new files into that folder yourself"),
        ("csv", {"location": "https://example.org/reviews.csv"}, "is a URL, expected a file under data/external"),
        ("csv", {"location": "own.csv"}, "expected a file under data/external"),
        ("csv", {"location": "data/external/../own.csv"}, "expected a file under data/external"),
        ("csv", {"location": "data/external/own.csv", "sha256": "0" * 64}, "set it to null"),
    ],
)
def test_a_source_that_cannot_be_extended_is_refused_with_what_to_do(chosen, section, message):
    with pytest.raises(InputError, match=message):
        wanted(chosen, **section)


def test_a_missing_own_file_is_an_error_that_says_where_to_get_it():
    p = sources.settings("csv", location="data/external/own.csv")
    with pytest.raises(InputError, match="put it there, or set its location"):
        adding.append(p, NEW, name="new.csv", skip_rejected=False)
    Path("data/external").mkdir(parents=True)
    Path("data/external/own.csv.dvc").write_text("outs:\n- path: own.csv\n")
    with pytest.raises(InputError, match="download it with `sentiflow remote pull`"):
        adding.append(p, NEW, name="new.csv", skip_rejected=False)


def test_start_creates_an_own_file_from_the_package_and_makes_it_the_source():
    Path("params.yaml").write_text((sources.TOP / "params.yaml").read_text())
    shipped = Path("params.yaml").read_text()
    p = params.load()
    p = p.model_copy(update={"download": p.download.model_copy(update={"package": smallest(p)})})
    NEW.write_text("review,sentiment\nA film of our own.,positive\n")
    added = adding.start_file(p, NEW, name="new.csv", skip_rejected=False)
    assert (added.rows, added.total) == (1, 8531)
    now = params.load().download
    assert (now.source, now.csv.location) == ("csv", "data/external/reviews.csv")
    assert adding.target(now) == adding.OWN
    changed = [line for line in Path("params.yaml").read_text().splitlines() if line not in shipped.splitlines()]
    assert len(changed) == 2, "no other line, and no comment, was changed"
    table, _ = Format(now.csv, now.max_characters, "download.csv").read(adding.OWN, "")
    texts = [row.text for row in package.find(p.download, Path(".cache")).found]
    assert [record.fields[0] for record in table.records] == [*map(normal_form.normalised, texts), "A film of our own."]
    with pytest.raises(InputError, match=r"--start is only for download.source: package, got csv"):
        adding.start_file(params.load(), NEW, name="new.csv", skip_rejected=False)
    with pytest.raises(InputError, match="exists already"):
        adding.start_file(p, NEW, name="new.csv", skip_rejected=False)


def smallest(p):
    return p.download.package.model_copy(update={"part": "rotten_tomatoes"})


def test_start_creates_nothing_if_a_row_is_unusable():
    Path("params.yaml").write_text((sources.TOP / "params.yaml").read_text())
    p = params.load()
    p = p.model_copy(update={"download": p.download.model_copy(update={"package": smallest(p)})})
    NEW.write_text("review,sentiment\nA film of our own.,posotive\n")
    with pytest.raises(InputError, match="unknown label"):
        adding.start_file(p, NEW, name="new.csv", skip_rejected=False)
    assert not adding.OWN.exists()
    assert params.load().download.source == "package"
