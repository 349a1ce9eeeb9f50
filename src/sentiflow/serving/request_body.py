"""Reads and validates the texts of a request. Error messages never contain any of the texts."""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from sentiflow.config.params import Dialect, Serve, TableSource
from sentiflow.data.sources import delimited, tables
from sentiflow.serving import predict
from sentiflow.system.errors import InputError

NAME = "the text/csv body"
FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")
EXPECTED = 'expected {"inputs": ["a text", ...]}, or another form of MLflow: instances, dataframe_split, dataframe_records'


def texts_of(body: bytes, kind: str, limits: Serve, table: TableSource) -> list[str]:
    """The texts of a request to /invocations.

    Args:
        kind: media type, application/json or text/csv.
        table: the format of tables in params.yaml, in which CSV may be, too.
    """
    found = _texts_of_csv(body, limits, table) if kind == "text/csv" else _texts_of_json(_decoded(body, "utf-8-sig"))
    if not found:
        raise HTTPException(400, "received no text, expected at least one")
    if len(found) > limits.max_rows:
        raise HTTPException(413, f"received {len(found):,} texts, expected at most {limits.max_rows:,}; use several requests")
    texts = []
    for number, text in enumerate(found, start=1):
        if not isinstance(text, str):
            raise HTTPException(400, f"received {_kind(text)} as text {number}, expected a string; send only texts")
        if not text.strip():
            raise HTTPException(400, f"received an empty or blank text {number}, expected a review; leave it out")
        if len(text) > limits.max_characters:
            raise HTTPException(
                413, f"received {len(text):,} characters as text {number}, expected at most {limits.max_characters:,}; shorten it"
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise HTTPException(400, f"received a lone surrogate in text {number}, expected Unicode; correct it") from None
        texts.append(text)
    return texts


def _texts_of_json(text: str) -> list[Any]:
    try:
        # numbers as floats: parsing long integers takes more than linear time, or is refused
        value = json.loads(text, parse_constant=_no_constant, parse_int=float, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise HTTPException(400, f"received invalid JSON ({error.msg} at {where}); correct it there") from None
    except ValueError as error:
        raise HTTPException(400, f"received {error}, which is not in JSON or out of range; {EXPECTED}") from None
    except RecursionError:
        raise HTTPException(400, f"received JSON that is nested too deeply; {EXPECTED}") from None
    if not isinstance(value, dict):
        raise HTTPException(400, f"received {_kind(value)}; {EXPECTED}")
    if len(value) != 1 or (form := next(iter(value))) not in FORMS:
        known = ", ".join(each for each in (*FORMS, "params") if each in value) or "none of them"
        raise HTTPException(400, f"received an object of {len(value)} keys, known: {known}; {EXPECTED}, and no other key")
    content = value[form]
    if form in ("inputs", "instances"):
        return [content] if isinstance(content, str) else _list(content, form)
    if form == "dataframe_records":
        return _texts_of_records(_list(content, form))
    return _texts_of_split(content)


def _texts_of_records(records: list[Any]) -> list[Any]:
    if any(not isinstance(record, dict) for record in records):
        raise HTTPException(400, 'received dataframe_records, expected a list of objects such as {"text": "a text"}')
    if not records:
        return []
    names = list(records[0])
    name = names[_place_of(names)]
    if any(name not in record for record in records):
        raise HTTPException(400, "received dataframe_records with different keys, expected the same in each")
    return [record[name] for record in records]


def _texts_of_split(content: Any) -> list[Any]:
    form = 'dataframe_split, expected {"columns": ["text"], "data": [["a text"], ...]}'
    if not isinstance(content, dict) or not {"data"} <= content.keys() <= {"data", "columns", "index"}:
        raise HTTPException(400, f"received other keys in {form}")
    table = _list(content["data"], "data of dataframe_split")
    widths = {len(row) if isinstance(row, list) else 0 for row in table}
    names = content.get("columns", [0] * max(widths, default=1))
    if not isinstance(names, list) or not widths <= {len(names)}:
        raise HTTPException(400, f"received rows that do not match the columns of {form}")
    if not table:
        return []
    place = _place_of(names)
    return [row[place] for row in table]


def _decoded(body: bytes, encoding: str) -> str:
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"received bytes that are not UTF-8 (at {error.start}); encode the body as UTF-8") from None


def _texts_of_csv(body: bytes, limits: Serve, table: TableSource) -> list[Any]:
    def lines(dialect: Dialect) -> Iterator[str]:
        text = _decoded(body, "utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding)
        found = io.StringIO(text, newline="").readlines()
        yield from found[delimited.preamble(found, dialect, Path(NAME)) :]

    start = body[: predict.START]
    try:
        names, places, rows = predict.table_of(start, lines, table, table.texts, longest=limits.max_bytes, name=NAME)
        if not names:
            return []
        places = places or [_place_of(names)]
        return [tables.text_of(row, places) for _, row in rows]
    except InputError as error:
        raise HTTPException(400, f"received CSV that cannot be read: {error}") from None


def _place_of(names: Sequence[Any]) -> int:
    place = predict.text_column(names)
    if place is None:
        raise HTTPException(
            400, f"received {len(names)} columns, expected one, or one of them named text or review; leave the others out"
        )
    return place


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise HTTPException(400, f"received {_kind(value)} as {name}, expected a list of texts")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise HTTPException(400, "received an object with the same key twice, expected each key once")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN, Infinity or -Infinity


def _kind(value: object) -> str:
    kinds = {bool: "true or false", dict: "an object", list: "a list", str: "a string", float: "a number"}
    return kinds.get(type(value), "null")
