import csv
import io
import random
import time
from pathlib import Path

import pytest

from sentiflow.data import sources
from sentiflow.data.sources import fetching, tables
from sentiflow.system.errors import InputError

PADDING = "".join(f"review number {n},{('negative', 'positive')[n % 2]}\n" for n in range(20))  # enough rows


@pytest.fixture
def load(tmp_path, settings, monkeypatch):
    """Writes a file and loads it with changed settings."""
    monkeypatch.chdir(tmp_path)

    def run(content, source="csv", **changes):
        name = {"csv": "reviews.csv", "tsv": "tweets.tsv"}[source]
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return sources.load(settings(source, **changes), tmp_path / "partial", seed=7)

    return run


def rejected(found):
    return [(row.line, row.reason) for row in found.rejects.itertuples()]


def test_quoted_fields_contain_separators_line_ends_and_doubled_quotes(load):
    found = load('review,sentiment\n"Good, ""very"" good.<br />\nReally.",positive\n' + PADDING)
    assert found.reviews.text[0] == 'Good, "very" good.<br />\nReally.'
    assert found.reviews.label[0] == "positive"
    assert found.rejects.empty


def test_classes_are_in_the_order_of_the_mapping(load):
    labels = {"b": "two", "a": "one", "c": "two"}
    found = load("review,sentiment\n" + "x,a\ny,b\nz,c\n" * 10, labels=labels)
    assert found.classes == ["two", "one"]
    assert found.reviews.label[:3].tolist() == ["one", "two", "two"]


def test_every_invalid_row_is_listed_with_line_and_reason(load):
    bad = (
        b"no label,\n"  # 2
        b"typing slip,posotive\n"  # 3
        b'"  \n",negative\n'  # 4 and 5
        b"one field\n"  # 6
        b"a, b, c\n"  # 7
        b"caf\xe9,positive\n"  # 8
        b"a\0b,positive\n"  # 9
        b"\n"  # 10, blank: no row
        b'"spans\ntwo lines","positive"\n'  # 11 and 12, good
        b"far too long,positive\n"  # 13
    )
    found = load(b"review,sentiment\n" + bad + PADDING.encode().replace(b"review number", b""), max_characters=11)
    assert rejected(found) == [
        (2, "missing label"),
        (3, "unknown label: 'posotive' is not mapped; did you mean 'positive'? mapped are 'negative', 'positive'"),
        (4, "empty text"),
        (6, "wrong number of fields: 1, expected 2"),
        (7, "wrong number of fields: 3, expected 2"),
        (8, "bytes that are not valid in the encoding"),
        (9, "NUL byte in the text"),
        (11, "text longer than 11 characters"),
        (13, "text longer than 11 characters"),
    ]
    assert set(found.rejects.source) == {"reviews.csv"}
    assert found.rejects.excerpt[5] == r"'caf\udce9'"
    assert len(found.reviews) == 20


def test_an_unclosed_quote_affects_its_own_line_only(load):
    found = load('review,sentiment\n"left open,positive\n"good, film",positive\nplain,negative\n' + PADDING)
    assert rejected(found) == [(2, "quotes do not match: ',' expected after '\"'")]
    assert found.reviews.text[:2].tolist() == ["good, film", "plain"]


def test_an_unclosed_quote_on_the_last_lines_is_reported(load):
    found = load("review,sentiment\n" + PADDING + '"cut in the mid\ndle of')
    assert [line for line, _ in rejected(found)] == [22, 23]
    assert "unexpected end of data" in rejected(found)[0][1]
    assert len(found.reviews) == 20


def test_a_malicious_file_is_parsed_in_linear_time_without_losing_lines(tmp_path):
    path = tmp_path / "hostile.csv"
    path.write_text("review,sentiment\n" + 'x",y,"\n' * 20_000)  # each line opens a quote
    started = time.monotonic()
    table = tables.read(path, tables.PLAIN)
    assert time.monotonic() - started < 5
    assert [record.line for record in table.records if record.flaw] == list(range(2, 20_002))


def test_whatever_csv_writes_is_read_back(tmp_path):
    draw = random.Random(7)
    alphabet = ["a", "é", " ", ",", '"', '""', "\n", "\r\n", "<br />", "\t"]
    for trial in range(50):
        written = [["".join(draw.choices(alphabet, k=draw.randrange(12))), str(n)] for n in range(30)]
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator=draw.choice(["\n", "\r\n"])).writerows([["review", "sentiment"], *written])
        path = tmp_path / f"{trial}.csv"
        path.write_bytes(buffer.getvalue().encode())
        table = tables.read(path, tables.PLAIN)
        assert [record.fields for record in table.records] == written
        lines = buffer.getvalue().replace("\r\n", "\n").split("\n")
        for record, (text, _) in zip(table.records, written, strict=True):
            first = text.replace("\r\n", "\n").split("\n")[0].replace('"', '""')
            assert lines[record.line - 1].lstrip('"').startswith(first.lstrip('"'))


def test_a_review_of_a_megabyte_is_read(load):
    found = load("review,sentiment\n" + "x" * 1_000_000 + ",positive\n" + "y" * 1_000_001 + ",positive\n" + PADDING)
    assert len(found.reviews.text[0]) == 1_000_000
    assert rejected(found) == [(3, "text longer than 1,000,000 characters")]


def test_the_field_limit_of_the_csv_module_is_restored(load):
    before = csv.field_size_limit()
    load("review,sentiment\n" + PADDING)
    assert csv.field_size_limit() == before


def test_a_byte_order_mark_is_not_part_of_the_first_column(load):
    assert len(load("\ufeffreview,sentiment\n" + PADDING).reviews) == 20


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_other_encodings_are_read(load, encoding):
    found = load(("review,sentiment\ncafé,positive\n" + PADDING).encode(encoding), encoding=encoding)
    assert found.reviews.text[0] == "café"


def test_a_wrong_encoding_is_an_error(load):
    content = ("review,sentiment\n" + PADDING).encode("utf-16")
    with pytest.raises(InputError, match=r"is UTF-16 text .* set encoding: utf-16"):
        load(content)
    with pytest.raises(InputError, match="is not utf-16"):
        load(b"\xff\xfe" + PADDING.encode() + b"x\xd8", encoding="utf-16")
    for unknown in ("klingon", "hex"):
        with pytest.raises(InputError, match=f"unknown text encoding '{unknown}'"):
            load(content, encoding=unknown)


def test_a_missing_column_is_an_error_with_the_existing_ones(load):
    named = r"no column 'sentiment', which download\.csv\.label in params.yaml requires; it has 'review', 'label', 'id': set"
    with pytest.raises(InputError, match=rf"{named} download\.csv\.label to one of its columns$"):
        load("review,label,id\nx,positive,1\n")


def test_a_header_of_one_field_hints_at_the_separator(load):
    with pytest.raises(InputError, match=r"it has 'review;sentiment': set separator to ';'"):
        load("review;sentiment\nx;positive\n")


def test_a_duplicate_column_is_an_error(load):
    with pytest.raises(InputError, match="more than one column 'review'"):
        load("review,review,sentiment\nx,y,positive\n")


@pytest.mark.parametrize(("content", "said"), [("\n\n", "is empty"), ("review,sentiment\n", "contains no rows")])
def test_a_file_without_rows_is_an_error(load, content, said):
    with pytest.raises(InputError, match=said):
        load(content)


def test_a_file_at_a_url_is_downloaded_and_reported_by_its_name(load, site):
    site.content = ("review,sentiment\n,positive\n" + PADDING).encode()
    found = load("", location=site.url + "?token=s3cret")
    assert len(found.reviews) == 20
    assert found.location == site.url
    assert found.rejects.source.tolist() == ["reviews.csv"]


def test_tweets_keep_their_quotes(load):
    rows = 'text\tlabel\n"so good\t1\nhe said "no" to me\t0\n"" meh "\t-1\n' + "x\t1\ny\t0\nz\t-1\n" * 10
    found = load(rows, "tsv")
    assert found.reviews.text[:3].tolist() == ['"so good', 'he said "no" to me', '"" meh "']
    assert found.reviews.label[:3].tolist() == ["positive", "neutral", "negative"]
    assert found.classes == ["negative", "neutral", "positive"]


def test_columns_without_a_header_have_numbers(load):
    rows = "7\t1\tfine\n7\tbroken\n" + "7\t0\tx\n7\t1\ty\n7\t-1\tz\n" * 10
    found = load(rows, "tsv", header=False, text=2, label=1)
    assert found.reviews.text[0] == "fine"
    assert rejected(found) == [(2, "wrong number of fields: 2, expected 3")]
    with pytest.raises(InputError, match=r"no column 3, which download\.tsv\.text in params.yaml requires; it has '0', '1', '2'"):
        load(rows, "tsv", header=False, text=3, label=1)


def test_the_file_of_50_000_long_reviews_is_read_in_seconds(load):
    review = '"' + 'A ""fine"" film, really.<br /><br />' * 36 + '",positive\n' + '"' + "Dull, and long. " * 80 + '",negative\n'
    content = "review,sentiment\n" + review * 25_000
    started = time.monotonic()
    found = load(content)
    assert time.monotonic() - started < 12  # about 2 s on one idle core
    assert found.reviews.label.value_counts().to_dict() == {"positive": 25_000, "negative": 25_000}
    assert found.sha256 == fetching.sha256_of(Path("reviews.csv"))
