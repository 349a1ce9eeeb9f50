"""Everything that reads what somebody else wrote takes time in proportion to it: four times the input, less than eight times."""

import contextlib
import json
from pathlib import Path

import pandas as pd
import pytest
from growth import growth
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from sentiflow.config import params
from sentiflow.config.params import Serve
from sentiflow.data import cleaning
from sentiflow.data.sources import delimited, tables
from sentiflow.data.stopwords import Stopwords
from sentiflow.serving import predict, request_body, server
from sentiflow.sharing import remote_settings
from sentiflow.sharing.versions import add
from sentiflow.system import urls
from sentiflow.system.errors import InputError

LIMITS = Serve(max_bytes=10**8, max_rows=1000, max_characters=10**8, body_seconds=1.0, poll_seconds=1.0)
TABLE = params.load(Path(__file__).parents[2] / "params.yaml").download.table


def columns(n, mark=","):
    return mark.join(f"c{i}" for i in range(n))


def csv_of(header):
    return list(predict.rows([header + "\n"], longest=10**8, name="it", written=predict.DEFAULT))


def table(folder, content, **limits):
    file = folder / "reviews.csv"
    file.write_text(content)
    return tables.read(file, tables.PLAIN, **limits)


def request(text):
    return request_body.texts_of(text.encode(), "application/json", LIMITS, TABLE)


def media_type(text):
    return server._media_type(Headers({"content-type": text}))


def clean(text):
    return cleaning.clean(pd.Series([text]), stopwords=Stopwords("english", keep_negations=True))


# what reads, what it is given for a number, that number
READERS = {
    "columns of a file to answer": (csv_of, columns, 80_000),
    "names of columns": (lambda names: predict._place_of(names, "c0", "it"), lambda n: columns(n).split(","), 20_000),
    "columns in another order": (
        lambda names: add._in_order_of(names, names[::-1], [], "it"),
        lambda n: columns(n).split(","),
        10_000,
    ),
    "keys": (request, lambda n: json.dumps(dict.fromkeys(map(str, range(n)))), 100_000),
    "records": (request, lambda n: json.dumps({"dataframe_records": [{"text": "a"}] * n}), 50_000),
    "rows": (request, lambda n: json.dumps({"dataframe_split": {"columns": ["text"], "data": [["a"]] * n}}), 50_000),
    "split columns": (request, lambda n: json.dumps({"dataframe_split": {"columns": [0] * n, "data": [[0] * n]}}), 100_000),
    "digits": (request, lambda n: f'{{"inputs": [{"1" * n}]}}', 250_000),
    "decimals": (request, lambda n: f'{{"inputs": [1.{"1" * n}]}}', 250_000),
    "nesting": (request, lambda n: '{"inputs": ' + "[" * n, 250_000),
    "line ends": (request, lambda n: "\n" * n, 250_000),
    "content type of semicolons": (media_type, lambda n: 'application/json; a="' + ";" * n, 60_000),
    "content type of quotes": (media_type, lambda n: 'application/json; charset="' + '\\"' * n, 60_000),
    "lines of a configuration": (remote_settings.secrets_in, lambda n: "\n" * n, 10_000),
    "URL of colons": (remote_settings.secrets_in, lambda n: "url = a://" + ":" * n, 10_000),
    "scheme without an end": (urls.without_secrets, lambda n: "a" * n, 10_000),
    "schemes without an end": (urls.without_secrets, lambda n: "a." * n, 10_000),
    "markup without an end": (clean, lambda n: "<a" * n, 50_000),
    "entities without an end": (clean, lambda n: "&#" * n + "&amp" * n, 50_000),
    "entity of digits": (clean, lambda n: "&#" + "9" * n, 100_000),
    "schemes": (clean, lambda n: "http://" * n, 50_000),
    "apostrophes": (clean, lambda n: "a'" * n, 50_000),
    "accents": (clean, lambda n: "e" + "\u0301" * n, 100_000),
}


@pytest.mark.parametrize("name", READERS)
def test_four_times_as_much_takes_no_more_than_a_linear_reader_needs(name):
    read, made, n = READERS[name]

    def work(given):
        with contextlib.suppress(InputError, HTTPException):
            read(given)

    work(made(10))  # what is compiled or imported once
    assert growth(work, made(n), made(4 * n)) < 8


def test_a_table_of_many_columns_is_refused_in_one_short_line(tmp_path):
    for read in (csv_of, lambda header: table(tmp_path, f"{header}\n{header}\n")):
        with pytest.raises(InputError, match=r"has 80,001 columns, expected at most 1,000") as raised:
            read(columns(80_001))
        assert len(str(raised.value)) < 300


def test_a_missing_column_of_many_names_some_of_them(tmp_path):
    found = table(tmp_path, f"{columns(1000)}\n")
    assert len(found.columns) == 1000
    with pytest.raises(InputError) as raised:
        tables.places(found.columns, TABLE, "download.csv", "reviews.csv")
    assert len(str(raised.value)) < 500


def test_a_line_or_file_that_is_too_long_is_refused_before_it_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "LONGEST", 1000)
    assert table(tmp_path, "text\n" + "a" * 999 + "\n", most=5000).records
    with pytest.raises(InputError, match="is too large: expected at most 5,000 characters, and 1,000 characters in a line"):
        table(tmp_path, "text\n" + "a" * 1001, most=5000)
    with pytest.raises(InputError, match="is too large"):
        table(tmp_path, "text\n" * 2000, most=5000)


def test_lines_of_an_endless_field_are_given_up_like_those_of_an_open_quote(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "LONGEST", 100)
    records = table(tmp_path, 'text\n"' + "a\n" * 200 + "fine\n").records
    assert records[0].flaw.startswith("quotes do not match: field larger than field limit")
    assert records[-1].fields == ["fine"]
