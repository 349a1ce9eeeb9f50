"""Reviews that are added to the project's own file: all of them or none, and nothing else in it changes."""

import re
from pathlib import Path

import pandas as pd
import pytest
import sources

from sentiflow.config import params
from sentiflow.data import normal_form
from sentiflow.data.sources import package, tables
from sentiflow.sharing.versions import appending
from sentiflow.sharing.versions.appending import Added, Format
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


def add(own, new, how=None, *, skip_rejected=False):
    OWN.write_bytes(own.encode(how.section.encoding if how else "utf-8") if isinstance(own, str) else own)
    NEW.write_bytes(new.encode(how.section.encoding if how else "utf-8") if isinstance(new, str) else new)
    return appending.add_rows(OWN, how or csv_format(), NEW, name="new.csv", skip_rejected=skip_rejected)


def test_rows_stand_behind_those_of_the_file_which_stay_as_they_are():
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
    ids=["Windows' ends of lines", "no end of the last line", "quotes around every field", "byte order mark"],
)
def test_new_rows_are_written_as_the_file_is(own, end):
    text = 'Two\nlines, a comma, a lone \r and a "quote".'
    quoted = '"' + text.replace('"', '""') + '"'
    add(own, f"review,label\n{quoted},positive\n")
    written = OWN.read_bytes().decode()
    assert written.startswith(own)
    assert written.endswith(end)
    assert written.count("\ufeff") == own.count("\ufeff")
    assert written.endswith(('"positive"' if own.startswith('"') else "positive") + end.removeprefix('"'))
    table = csv_format().read(OWN)
    assert [record.fields for record in table.records] == [["A.", "negative"], [text, "positive"]]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_file_keeps_its_encoding(encoding):
    how = csv_format(encoding=encoding, separator=";")
    add("review;label\nÀ.;negative\n", "review;label\nÉ.;positive\n", how)
    assert OWN.read_bytes().decode(encoding) == "review;label\nÀ.;negative\nÉ.;positive\n"


def test_tab_separated_file_without_header_or_quotes_keeps_them_away():
    add('negative\t"A.\n', 'positive\t5" of B.\n', tsv_format())
    assert OWN.read_text() == 'negative\t"A.\npositive\t5" of B.\n'


def test_columns_are_put_in_the_order_of_the_file_and_those_that_are_missing_stay_empty():
    add("id,label,review\n1,negative,A.\n", "review,label\nB.,positive\n")
    assert OWN.read_text().splitlines()[-1] == ",positive,B."
    with pytest.raises(InputError, match="has columns that the file of reviews has not: 'stars'"):
        add("review,label\nA.,negative\n", "review,label,stars\nB.,positive,5\n")


def test_copies_are_left_out_whatever_their_markup_case_and_spacing():
    new = "review,label\nA film!,negative\n<b>a  FILM!</b>,negative\nB.,pos\nb.,positive\n"
    assert add("review,label\nA film!,negative\n", new) == Added(rows=1, copies=3, rejected=0, total=2)
    assert OWN.read_text().splitlines()[1:] == ["A film!,negative", "B.,pos"]


def test_texts_with_another_label_are_listed_and_none_is_added():
    own = "review,label\nA film!,negative\n"
    with pytest.raises(InputError) as refused:
        add(own, "review,label\nC.,negative\na film!,positive\nD.,negative\nD.,positive\n")
    assert OWN.read_text() == own
    told = str(refused.value)
    assert told.startswith("2 texts of new.csv have another label in the file, or twice in new.csv, so none was added:\n")
    assert "line 3: labelled positive here, negative elsewhere: 'a film!'" in told
    assert "line 5: labelled positive here, negative elsewhere: 'D.'" in told


BAD = (
    'review,label\nC.,posotive\n,negative\nD.,\nE.\n"' + "x" * 101 + '",negative\nF\x00.,negative\nG.,positive\nH "h.,negative\n'
)


def test_every_row_that_cannot_be_used_is_listed_with_its_reason_and_none_is_added():
    own = "review,label\nA.,negative\n"
    with pytest.raises(InputError) as refused:
        add(own, BAD.encode() + b"\xff\xfe.,negative\n")
    assert OWN.read_text() == own
    told = str(refused.value)
    for line, reason in {
        2: "unknown label",
        3: "empty text",
        4: "missing label",
        5: "wrong number of fields",
        6: "text longer than 100 characters",
        7: "NUL byte",
        10: "bytes that are not valid",
    }.items():
        assert re.search(rf"^  line {line}: {reason}", told, re.MULTILINE), (line, told)
    assert "line 8:" not in told
    assert "--skip-rejected" in told


def test_rows_that_cannot_be_used_are_left_out_where_that_is_asked_for():
    added = add("review,label\nA.,negative\n", BAD, skip_rejected=True)
    assert (added.rows, added.copies, added.total) == (2, 0, 3)
    assert added.rejected == 6
    assert OWN.read_text().endswith("G.,positive\n" + '"H ""h.",negative\n')


def test_long_list_of_bad_rows_stands_whole_in_a_file():
    with pytest.raises(InputError, match=r"and 10 more: \.cache/add_reviews\.csv lists all"):
        add("review,label\nA.,negative\n", "review,label\n" + "C.,posotive\n" * 30)
    assert pd.read_csv(appending.LISTING)["line"].tolist() == list(range(2, 32))


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("", "is empty"),
        ("review,label\n", "holds no rows"),
        ("review;label\nC.;positive\n", "no column 'review', which download.csv.text"),
        ("text,label\nC.,positive\n", "no column 'review'"),
    ],
)
def test_file_that_is_no_table_of_reviews_is_refused(new, message):
    with pytest.raises(InputError, match=message):
        add("review,label\nA.,negative\n", new)


def test_file_whose_last_quote_is_open_swallows_no_new_row():
    own = 'review,label\nA.,negative\n"B,negative\n'
    assert add(own, 'review,label\n"C, c",positive\n').rows == 1
    assert csv_format().read(OWN).records[-1].fields == ["C, c", "positive"]
    with pytest.raises(InputError, match="a quote in its last rows may be left open"):
        add(own, 'review,label\n",negative",positive\n')


# --- which file ---------------------------------------------------------------------------------------------------------


def wanted(chosen, **section):
    return appending.target(sources.settings(chosen, **section).download)


def test_rows_go_to_the_file_that_params_name():
    assert wanted("csv", location="data/external/./own.csv") == Path("data/external/own.csv")
    assert wanted("tsv", location="data/external/own.tsv") == Path("data/external/own.tsv")


@pytest.mark.parametrize(
    ("chosen", "section", "message"),
    [
        ("package", {}, r"--start` starts a file of your own"),
        ("aclimdb", {}, "put new files into that folder yourself"),
        ("csv", {"location": "https://example.org/reviews.csv"}, "is a URL; expected a file under data/external"),
        ("csv", {"location": "own.csv"}, "expected a file under data/external"),
        ("csv", {"location": "data/external/../own.csv"}, "expected a file under data/external"),
        ("csv", {"location": "data/external/own.csv", "sha256": "0" * 64}, "set it to null"),
    ],
)
def test_source_that_cannot_grow_is_refused_with_what_to_do(chosen, section, message):
    with pytest.raises(InputError, match=message):
        wanted(chosen, **section)


def test_missing_file_is_pulled_where_dvc_tracks_it():
    p = sources.settings("csv", location="data/external/own.csv")
    with pytest.raises(InputError, match="put it there, or set its location"):
        appending.append(p, NEW, name="new.csv", skip_rejected=False)
    Path("data/external").mkdir(parents=True)
    Path("data/external/own.csv.dvc").write_text("outs:\n- path: own.csv\n")
    with pytest.raises(InputError, match="`sentiflow remote pull` downloads it"):
        appending.append(p, NEW, name="new.csv", skip_rejected=False)


def test_own_file_is_started_with_the_package_s_reviews_and_becomes_the_source(monkeypatch):
    tracked = []
    monkeypatch.setattr(appending, "_track", tracked.append)  # which needs a project of DVC
    Path("params.yaml").write_text((sources.TOP / "params.yaml").read_text())
    shipped = Path("params.yaml").read_text()
    p = params.load()
    p = p.model_copy(update={"download": p.download.model_copy(update={"package": smallest(p)})})
    NEW.write_text("review,sentiment\nA film of our own.,positive\n")
    added = appending.start(p, NEW, name="new.csv", skip_rejected=False)
    assert (added.rows, added.total) == (1, 8531)
    assert tracked == [appending.OWN]
    now = params.load().download
    assert (now.source, now.csv.location) == ("csv", "data/external/reviews.csv")
    assert appending.target(now) == appending.OWN
    changed = [line for line in Path("params.yaml").read_text().splitlines() if line not in shipped.splitlines()]
    assert len(changed) == 2, "no other line, and no comment, was changed"
    table = Format(now.csv, now.max_characters, "download.csv").read(appending.OWN)
    texts = [row.text for row in package.find(p.download, Path(".cache")).found]
    assert [record.fields[0] for record in table.records] == [*map(normal_form.normalised, texts), "A film of our own."]
    with pytest.raises(InputError, match=r"received START, but download.source is csv"):
        appending.start(params.load(), NEW, name="new.csv", skip_rejected=False)
    with pytest.raises(InputError, match="is there already"):
        appending.start(p, NEW, name="new.csv", skip_rejected=False)


def smallest(p):
    return p.download.package.model_copy(update={"part": "rotten_tomatoes"})


def test_own_file_is_not_started_where_new_rows_cannot_be_used():
    Path("params.yaml").write_text((sources.TOP / "params.yaml").read_text())
    p = params.load()
    p = p.model_copy(update={"download": p.download.model_copy(update={"package": smallest(p)})})
    NEW.write_text("review,sentiment\nA film of our own.,posotive\n")
    with pytest.raises(InputError, match="unknown label"):
        appending.start(p, NEW, name="new.csv", skip_rejected=False)
    assert not appending.OWN.exists()
    assert params.load().download.source == "package"
