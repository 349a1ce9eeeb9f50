"""The ASGI application with a small model; stores and real connections are tested in tests/system."""

import asyncio
import dataclasses
import json
import os
import socket
import time
import tracemalloc
from importlib import metadata
from pathlib import Path

import commands
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from sentiflow.config import params
from sentiflow.config.params import Serve
from sentiflow.models import sentiment_model
from sentiflow.serving import request_body, server
from sentiflow.system.errors import InputError

from sentiflow.registry import model_versions  # isort: skip

from mlflow.models import Model, ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema

LIMITS = Serve(max_bytes=1000, max_rows=4, max_characters=200, body_seconds=0.3, poll_seconds=0.1)
TABLE = params.load(Path(__file__).parents[3] / "params.yaml").download.table
TEXTS = ["A great film.", "so dull, an awful waste", "na\u00efve \U0001f600"]
SECRET = "a secret text"
JSON, CSV = "application/json", "text/csv"


def opened(version, model):
    signature = ModelSignature(Schema([ColSpec(DataType.string)]), Schema([ColSpec(DataType.string, "label")]))
    flavors = {"python_function": {"loader_module": "mlflow.pyfunc.loaders.code_model"}}
    return model_versions.Opened(version, "nb_svm", model, Model(signature=signature, flavors=flavors), 1.0)


@pytest.fixture(scope="module")
def opposite(model):
    """A model with opposite predictions."""
    return dataclasses.replace(model, classifier=dataclasses.replace(model.classifier, weights=-model.classifier.weights))


@pytest.fixture(scope="module")
def both(model, opposite):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "false")  # MLflow sets it; restored at the end
        yield server.served(opened("12", model)), server.served(opened("13", opposite))


@pytest.fixture
def watch(both):
    return server.Watch(None, both[0])  # it never polls, so no store is needed


@pytest.fixture
def app(watch):
    return server.Application(watch, LIMITS, TABLE)


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: bytes
    read: int  # bytes of the request that were read before the response began

    @property
    def json(self):
        return json.loads(self.body)


def ask(app, path="/invocations", parts=(), *, method=None, kind=JSON, length=None, between=None, ends=True, **headers):
    """The response to a body that arrives in parts; `between` is called after the first of them."""
    parts = list(parts)
    method = method or ("POST" if parts else "GET")
    head = {"host": "127.0.0.1:8000"} | ({"content-type": kind} if kind and parts else {})
    if parts:
        head |= {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
    head |= {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000), "state": {},
        "headers": [(name.encode(), value.encode()) for name, value in head.items()],
    }  # fmt: skip
    sent, taken, waiting = [], [], iter(parts or [b""])

    async def receive():
        part = next(waiting, None)
        if part is None:
            await asyncio.sleep(60)  # the client stays connected and sends nothing
        if between is not None and len(taken) == 1:
            between()
        taken.append((len(part), bool(sent)))
        return {"type": "http.request", "body": part, "more_body": len(taken) < len(parts) or not ends}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    start, *rest = sent
    assert [message["type"] for message in sent] == ["http.response.start"] + ["http.response.body"] * len(rest)
    read = sum(size for size, answered in taken if not answered)
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(message.get("body", b"") for message in rest), read)


def asked(app, value, **more):
    return ask(app, parts=[json.dumps(value).encode()], **more)


def of_model(model, texts):
    return model.predict(texts).to_dict("records")


# responses


FORMS = {
    "inputs": ({"inputs": TEXTS}, JSON),
    "instances": ({"instances": TEXTS}, JSON),
    "charset in quotes": ({"inputs": TEXTS}, f'{JSON.upper()} ;Charset="UTF-8"'),
    "another parameter": ({"inputs": TEXTS}, f"{JSON}; profile=a"),
    "byte order mark": ("\ufeff" + json.dumps({"inputs": TEXTS}), JSON),
    "csv with a byte order mark": ("\ufeff" + pd.DataFrame({"text": TEXTS, "id": 1}).to_csv(index=False), CSV),
    "split": ({"dataframe_split": {"columns": ["text"], "data": [[text] for text in TEXTS]}}, JSON),
    "split without columns": ({"dataframe_split": {"data": [[text] for text in TEXTS]}}, JSON),
    "split with index": ({"dataframe_split": {"index": [7, 8, 9], "columns": [0], "data": [[text] for text in TEXTS]}}, JSON),
    "split of more columns": ({"dataframe_split": {"columns": ["id", "review"], "data": [[1, text] for text in TEXTS]}}, JSON),
    "records": ({"dataframe_records": [{"text": text} for text in TEXTS]}, JSON),
    "records of more keys": ({"dataframe_records": [{"id": None, "text": text} for text in TEXTS]}, JSON),
    "csv": (pd.DataFrame({"anything": TEXTS}).to_csv(index=False), CSV),
    "csv with Excel's line about the separator": ("sep=,\r\n" + pd.DataFrame({"text": TEXTS}).to_csv(index=False), CSV),
    "csv as pandas writes it": (pd.DataFrame({"text": TEXTS}).to_csv(), CSV),
    "csv of a spreadsheet": (pd.DataFrame({"review": TEXTS}).to_csv(index=False, lineterminator="\r\n"), f"{CSV}; charset=UTF-8"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_documented_form_has_the_models_predictions(app, model, form):
    value, kind = FORMS[form]
    body = value if isinstance(value, str) else json.dumps(value)
    answer = ask(app, parts=[body.encode()], kind=kind)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == JSON
    assert answer.json == {"predictions": of_model(model, TEXTS)}


@pytest.mark.parametrize("form", ["inputs", "instances"])
def test_a_single_text_needs_no_list(app, model, form):
    assert asked(app, {form: TEXTS[1]}).json == {"predictions": of_model(model, TEXTS[1:2])}


@pytest.mark.parametrize("text", ["NA", "null", "1", "a\0", "\u2028 \ufeff", "2020-01-01", "<br />"])
def test_every_text_reaches_the_model_unchanged(app, model, text, monkeypatch):
    seen = []
    predict = sentiment_model.SentimentModel.predict
    monkeypatch.setattr(
        sentiment_model.SentimentModel, "predict", lambda self, texts: (seen.extend(texts), predict(self, texts))[1]
    )
    assert asked(app, {"inputs": [text]}).status == 200
    assert ask(app, parts=[pd.DataFrame({"text": [text]}).to_csv(index=False, quoting=1).encode()], kind=CSV).status == 200
    assert seen == [text, text]


def test_a_body_may_arrive_in_any_chunks(app, model):
    body = json.dumps({"inputs": TEXTS}).encode()
    answer = ask(app, parts=[body[i : i + 1] for i in range(len(body))])
    assert answer.json == {"predictions": of_model(model, TEXTS)}


def test_long_and_short_texts_together_take_no_more_memory_than_they_need(both):
    limits = Serve(max_bytes=400_000, max_rows=1000, max_characters=100_000, body_seconds=5.0, poll_seconds=1.0)
    app = server.Application(server.Watch(None, both[0]), limits, TABLE)
    tracemalloc.start()
    try:
        answer = asked(app, {"inputs": ["a " * 50_000] + ["b"] * 999})
        assert answer.status == 200
        assert tracemalloc.get_traced_memory()[1] < 40e6  # in MLflow's array for `inputs` each text would take 400 kB
    finally:
        tracemalloc.stop()


# versions


def test_every_response_names_its_version(app):
    answers = [
        asked(app, {"inputs": TEXTS}),
        asked(app, {"inputs": []}),
        *(ask(app, path) for path in ("/health", "/version", "/ping", "/docs")),
    ]
    assert [answer.status for answer in answers] == [200, 400, 200, 200, 200, 404]
    assert {answer.headers["x-model-version"] for answer in answers} == {"12"}


def test_health_and_version_name_the_version(app, watch):
    assert ask(app, "/health").json == {"status": "ok", "version": "12"}
    response = ask(app, "/version").json
    since, mlflow = response.pop("since"), response.pop("mlflow")
    assert response == {"model": "sentiflow", "version": "12", "architecture": "nb_svm"}
    assert mlflow == metadata.version("mlflow")
    assert pd.Timestamp(since) <= pd.Timestamp.now("UTC")
    watch.trouble = "version 13 cannot be opened"
    degraded = ask(app, "/health")
    assert (degraded.status, degraded.json) == (
        200,
        {"status": "degraded", "reason": "version 13 cannot be opened", "version": "12"},
    )


def test_a_request_is_answered_by_the_version_of_its_beginning(app, watch, both, model, opposite):
    body = json.dumps({"inputs": TEXTS}).encode()

    def change():
        watch.current = both[1]

    during = ask(app, parts=[body[:9], body[9:]], between=change)
    after = ask(app, parts=[body])
    assert (during.headers["x-model-version"], during.json["predictions"]) == ("12", of_model(model, TEXTS))
    assert (after.headers["x-model-version"], after.json["predictions"]) == ("13", of_model(opposite, TEXTS))
    assert of_model(model, TEXTS) != of_model(opposite, TEXTS)


def test_a_failing_model_is_an_error_without_traceback_or_text(model, monkeypatch, caplog):
    watch = server.Watch(None, server.served(opened("14", model)))
    monkeypatch.setitem(model.classifier.config.settings.__dict__, "view", "no such view")
    answer = asked(server.Application(watch, LIMITS, TABLE), {"inputs": [SECRET]})
    assert answer.status == 500
    assert answer.json == {"error": "version 14 failed; see the server's log"}
    assert "version 14 failed to predict 1 texts" in caplog.text
    assert "no such view" in caplog.text
    assert SECRET not in caplog.text


def test_a_version_that_mlflow_cannot_call_is_refused(model):
    version = opened("14", model)
    version.metadata.signature = ModelSignature(Schema([ColSpec(DataType.long)]))
    with pytest.raises(InputError, match="version 14 is refused: MLflow cannot call it"):
        server.served(version)


# limits


def filled(size):
    """A request of this many bytes."""
    body = json.dumps({"inputs": ["", "", "", ""]}).encode()
    missing = size - len(body)
    texts = ["a" * (missing // 4 + (i < missing % 4)) for i in range(4)]
    body = json.dumps({"inputs": texts}).encode()
    assert len(body) == size
    return body


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_the_maximum_size_is_answered_and_one_byte_more_is_refused(both, declared):
    app = server.Application(server.Watch(None, both[0]), LIMITS.model_copy(update={"max_characters": 1000}), TABLE)
    for size, status in ((LIMITS.max_bytes, 200), (LIMITS.max_bytes + 1, 413)):
        answer = ask(app, parts=[filled(size)], length=size if declared else None)
        assert answer.status == status, answer.body
    assert answer.read == (0 if declared else LIMITS.max_bytes + 1)
    assert answer.json == {"error": "received more than 1,000 bytes, expected at most that; send fewer or shorter texts"}


@pytest.mark.parametrize("length", [None, 10, 10**30])
def test_an_endless_body_is_refused_and_not_kept_in_memory(app, length):
    answer = ask(app, parts=[b"x" * 100] * 200, length=length)
    assert answer.status == 413
    assert answer.read <= LIMITS.max_bytes + 100
    assert answer.headers["connection"] == "close"


def test_reading_the_rest_of_a_refused_body_has_a_timeout(app):
    begun = time.monotonic()
    assert ask(app, parts=[b"x" * 1001, b"x"], ends=False).status == 413
    assert LIMITS.body_seconds <= time.monotonic() - begun < LIMITS.body_seconds + 5


def test_a_slow_body_is_refused_after_the_timeout(app):
    answer = ask(app, parts=[b'{"inputs"', b": "], ends=False)
    assert answer.status == 408
    assert answer.json == {"error": "received part of a body within 0.3 s, expected all of it"}


def test_a_disconnected_client_gets_no_response(app):
    async def leave():
        sent = []

        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"10")]
        await app({"type": "http", "method": "POST", "path": "/invocations", "headers": headers}, receive, send)
        return sent

    assert asyncio.run(leave()) == []


def test_limits_of_rows_and_characters(app):
    assert asked(app, {"inputs": ["a"] * 4}).status == 200
    assert asked(app, {"inputs": ["a"] * 5}).status == 413
    assert asked(app, {"inputs": ["a" * 200]}).status == 200
    longer = asked(app, {"inputs": ["a", "a" * 201]})
    assert longer.status == 413
    assert longer.json == {"error": "received 201 characters as text 2, expected at most 200; shorten it"}
    assert asked(app, {"inputs": ["\U0001f600" * 80]}).status == 200  # characters, not bytes


REFUSED = {
    "nothing": (b"", JSON, 400, "invalid JSON"),
    "cut": (b'{"inputs": ["' + SECRET.encode(), JSON, 400, "invalid JSON"),
    "trailing": (b'{"inputs": ["a"]} ' + SECRET.encode(), JSON, 400, "invalid JSON"),
    "not UTF-8": (b'{"inputs": ["\xff"]}', JSON, 400, "not UTF-8"),
    "UTF-16": ('{"inputs": ["a"]}'.encode("utf-16"), JSON, 400, "not UTF-8"),
    "NaN": (b'{"inputs": ["a", NaN]}', JSON, 400, "received NaN"),
    "infinity": (b'{"inputs": -Infinity}', JSON, 400, "received -Infinity"),
    "deep list": (b'{"inputs": ' + b"[" * 900, JSON, 400, "JSON"),
    "deep object": (b'{"a":' * 180, JSON, 400, "JSON"),
    "long number": (b'{"inputs": ' + b"1" * 900 + b"}", JSON, 400, "received a number"),
    "list": (b'["a secret text"]', JSON, 400, "received a list"),
    "string": (b'"a secret text"', JSON, 400, "received a string"),
    "null": (b"null", JSON, 400, "received null"),
    "no key": (b"{}", JSON, 400, "object of 0 keys"),
    "other key": (b'{"a secret text": ["a"]}', JSON, 400, "object of 1 keys, known: none"),
    "two keys": (b'{"inputs": ["a"], "instances": ["a"]}', JSON, 400, "known: inputs, instances"),
    "parameters": (b'{"inputs": ["a"], "params": {"a secret text": 1}}', JSON, 400, "known: inputs, params"),
    "a chat": (b'{"messages": [{"role": "user", "content": "a"}]}', JSON, 400, "object of 1 keys"),
    "no texts": (b'{"inputs": []}', JSON, 400, "received no text"),
    "no records": (b'{"dataframe_records": []}', JSON, 400, "received no text"),
    "no rows": (b'{"dataframe_split": {"columns": ["text"], "data": []}}', JSON, 400, "received no text"),
    "number": (b'{"inputs": ["a", 1]}', JSON, 400, "received a number as text 2"),
    "null as text": (b'{"inputs": [null]}', JSON, 400, "received null as text 1"),
    "truth": (b'{"instances": [true]}', JSON, 400, "received true or false as text 1"),
    "object": (b'{"instances": [{"text": "a secret text"}]}', JSON, 400, "received an object as text 1"),
    "list of lists": (b'{"inputs": [["a"]]}', JSON, 400, "received a list as text 1"),
    "inputs by name": (b'{"inputs": {"text": ["a"]}}', JSON, 400, "received an object as inputs"),
    "lone surrogate": (b'{"inputs": ["\\ud83d"]}', JSON, 400, "lone surrogate"),
    "records of other keys": (b'{"dataframe_records": [{"text": "a"}, {"review": "a"}]}', JSON, 400, "different keys"),
    "records of texts": (b'{"dataframe_records": ["a"]}', JSON, 400, "list of objects"),
    "unclear records": (b'{"dataframe_records": [{"a": "a", "b": "a"}]}', JSON, 400, "received 2 columns"),
    "empty records": (b'{"dataframe_records": [{}]}', JSON, 400, "received 0 columns"),
    "split of a list": (b'{"dataframe_split": [["a"]]}', JSON, 400, "dataframe_split"),
    "split without data": (b'{"dataframe_split": {"columns": ["text"]}}', JSON, 400, "dataframe_split"),
    "split of uneven rows": (
        b'{"dataframe_split": {"columns": ["text"], "data": [["a"], ["a", "b"]]}}',
        JSON,
        400,
        "do not match",
    ),
    "split of texts": (b'{"dataframe_split": {"columns": ["text"], "data": ["a"]}}', JSON, 400, "do not match"),
    "split of numbers": (b'{"dataframe_split": {"columns": ["text"], "data": [[1]]}}', JSON, 400, "a number as text 1"),
    "same key twice": (b'{"inputs": ["a"], "inputs": ["b"]}', JSON, 400, "an object with the same key twice"),
    "same key twice within": (b'{"dataframe_records": [{"text": "a", "text": "b"}]}', JSON, 400, "the same key twice"),
    "long number in a list": (b'{"inputs": ["a", ' + b"1" * 900 + b"]}", JSON, 400, "a number as text 2"),
    "mark in the middle": (b'{"inputs":\xef\xbb\xbf["a"]}', JSON, 400, "invalid JSON"),
    "split by a strange name": (b'{"dataframe_split": {"columns": {"text": 1}, "data": [["a"]]}}', JSON, 400, "do not match"),
    "empty text": (b'{"inputs": ["a", ""]}', JSON, 400, "received an empty or blank text 2"),
    "blank text": (b'{"inputs": [" \\n\\t"]}', JSON, 400, "received an empty or blank text 1"),
    "empty CSV cell": (b'text\na\n""\n', CSV, 400, "received an empty or blank text 2"),
    "no CSV": (b"", CSV, 400, "received no text"),
    "only a header": (b"text\n", CSV, 400, "received no text"),
    "open quote": (b'text\n"a secret text', CSV, 400, "the row that begins in line 2"),
    "uneven CSV": (b"id,text\n1,a\n2,a,a secret text\n", CSV, 400, "3 cells in line 3, expected 2"),
    "CSV of another separator": (b"sep=;\ntext;id\na;1\n", CSV, 400, "the text/csv body is separated by ';'"),
    "unclear CSV": (b"a secret text,other\na,b\n", CSV, 400, "received 2 columns"),
    "too many CSV rows": (b"text\n" + b"a\n" * 5, CSV, 413, "received 5 texts"),
    "parquet": (b"PAR1", "application/vnd.apache.parquet", 415, "application/json or text/csv"),
    "form": (b"inputs=a", "application/x-www-form-urlencoded", 415, "application/json or text/csv"),
    "plain text": (b'{"inputs": ["a"]}', "text/plain", 415, "application/json or text/csv"),
    "no type": (b'{"inputs": ["a"]}', None, 415, "application/json or text/csv"),
    "strange type": (b'{"inputs": ["a"]}', ";;;", 415, "application/json or text/csv"),
    "other charset": (b'{"inputs": ["a"]}', f"{JSON}; charset=latin-1", 415, "in UTF-8"),
    "two charsets": (b'{"inputs": ["a"]}', f"{JSON}; charset=utf-8; charset=latin-1", 415, "in UTF-8"),
    "encoded charset": (b'{"inputs": ["a"]}', f"{JSON}; charset*=us-ascii''latin-1", 415, "in UTF-8"),
    "longer type": (b'{"inputs": ["a"]}', f"{JSON}x", 415, "in UTF-8"),
    "many columns of CSV": (b",".join([b"a"] * 400) + b"\n", CSV, 400, "received 400 columns"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_body_is_refused_with_a_reason_that_contains_none_of_it(app, case):
    body, kind, status, message = REFUSED[case]
    answer = ask(app, parts=[body], kind=kind, length=len(body))
    assert answer.status == status, answer.body
    assert list(answer.json) == ["error"]
    assert message in answer.json["error"]
    assert answer.json["error"].startswith("received ")
    assert SECRET not in answer.body.decode()
    assert "Traceback" not in answer.body.decode()


def test_a_compressed_body_is_refused(app):
    assert asked(app, {"inputs": ["a"]}, content_encoding="gzip").status == 415


def test_deeply_nested_json_is_refused():
    for body in (b'{"inputs": ' + b"[" * 500_000, b'{"a":' * 100_000):
        with pytest.raises(HTTPException, match="nested too deeply"):
            request_body.texts_of(body, JSON, LIMITS, TABLE)


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*request_body.FORMS, "data", "text", ""]), inner)
    ),
    max_leaves=9,
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(body=st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()), kind=st.sampled_from([JSON, CSV]))
@example(body=b'"', kind=CSV)
@example(body=b'{"dataframe_split": {"data": [[]]}}', kind=JSON)
def test_any_body_is_parsed_or_refused(body, kind):
    try:
        texts = request_body.texts_of(body, kind, LIMITS, TABLE)
    except HTTPException:
        return
    assert 0 < len(texts) <= LIMITS.max_rows
    assert all(isinstance(text, str) and len(text) <= LIMITS.max_characters for text in texts)


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/openapi.json", "/invocations/", "//invocations", "/../params.yaml"])
def test_only_known_paths_are_answered(app, path):
    assert ask(app, path).status == 404


@pytest.mark.parametrize(
    ("path", "method"), [("/invocations", "GET"), ("/health", "POST"), ("/version", "DELETE"), ("/ping", "PUT")]
)
def test_only_the_right_method_is_answered(app, path, method):
    answer = ask(app, path, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, server.PATHS[path])


FOREIGN = [
    "evil.example", "127.0.0.1.evil.example:8000", "10.evil.com", "", "localhost.evil.example", "localhost..", "[::1", "::1",
    "[::1].evil.example", "[::2]", "localhost:evil.example", "localhost:80:80", "user@localhost", "127x0.0.1", "localhost/",
]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN)
def test_another_host_is_refused(app, host):
    assert asked(app, {"inputs": ["a"]}, host=host).status == 421
    assert ask(app, "/version", host=host).status == 421


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "localhost.", "localhost.:80", "[::1]:8000", "[::1]"],
)
def test_the_names_of_this_machine_are_accepted(app, host):
    assert ask(app, "/version", host=host).status == 200


# start


def test_a_port_in_use_is_an_error_that_names_it(capsys):
    with socket.socket() as other:
        other.bind((server.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        status, _, message = commands.run(capsys, "serve", "--port", port)
    assert status == 1
    assert f"error: port {port} of 127.0.0.1 is not available (Address already in use)" in message


def test_nothing_is_unpickled():
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
