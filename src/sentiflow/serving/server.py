"""Answer reviews over HTTP with the champion: MLflow's own scoring server, with limits before it and an eye on who is champion.

Every answer names the version that gave it in the header x-model-version. MLflow documents what /invocations takes.
"""

import asyncio
import contextlib
import gc
import json
import logging
import re
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import FrameType

# before MLflow is imported
from sentiflow.models import settings

from sentiflow.registry import model_versions, store  # isort: skip

import mlflow
import pandas as pd
import requests
import sqlalchemy
import uvicorn
from h11 import LocalProtocolError
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sentiflow.config.params import Serve, TableSource
from sentiflow.models import sentiment_model
from sentiflow.serving import predict
from sentiflow.serving.request_body import RefusedError, texts_of
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

HOST = "127.0.0.1"
# A page of another name that resolves to this machine is not answered.
OWN_NAME = re.compile(r"(127\.0\.0\.1|localhost\.?|\[::1\])(:[0-9]*)?", re.IGNORECASE | re.ASCII)
MEDIA_TYPES = {"application/json", "text/csv"}
CONNECTIONS = 128  # at once; each holds one request at most
KNOCK = 5.0  # seconds for a store behind HTTP to answer
REST = 60.0  # seconds until a version that was refused is tried again
PATHS = {"/ping": "GET", "/health": "GET", "/version": "GET", "/invocations": "POST"}
AWAY = (InputError, MlflowException, SQLAlchemyError, requests.RequestException, OSError)


# --- the version that answers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Served:
    """A version with a scoring server of MLflow's own to it."""

    version: str
    architecture: str
    since: str  # ISO 8601
    app: ASGIApp


class _Model:
    """What MLflow's server calls, in any of its threads: one request at a time, as no model promises more."""

    def __init__(self, opened: model_versions.Opened) -> None:
        self._opened = opened
        self._one_at_a_time = threading.Lock()

    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        try:
            with self._one_at_a_time:
                return self._opened.model.predict(model_input.iloc[:, 0].tolist())
        except Exception:  # MLflow puts it into its answer, which nobody gets to see
            log.exception("version %s could not answer %s texts", self._opened.version, len(model_input))
            raise


def served(opened: model_versions.Opened) -> Served:
    """A version that has answered once, signature and all, so that the first request need not wait for anything."""
    model = PyFuncModel(opened.metadata, _Model(opened))
    try:
        model.predict(pd.DataFrame({"text": list(sentiment_model.PROBE)}))
    except MlflowException as error:
        raise InputError(f"version {opened.version} is refused: MLflow cannot ask it ({_line(error)})") from None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Served(opened.version, opened.architecture, now, scoring_server.init(model))


class Watch:
    """Holds the version that answers, and follows the alias `champion`.

    `current` is replaced by one assignment, so a request that read it once is answered by that version from start to end.
    """

    def __init__(self, client: MlflowClient, current: Served) -> None:
        self.client = client
        self.current = current
        self.trouble: str | None = None  # why a newer champion does not answer, or why nobody knows whether there is one
        self._refused: tuple[str, float] | None = None  # a version, and when it is tried again

    def follow(self, seconds: float, stop: threading.Event) -> None:
        while not stop.wait(seconds):
            self.look()

    def look(self) -> None:
        """Looks once who is champion, and changes to it if it can be opened. Whatever goes wrong, the current one stays."""
        try:
            champion = self._champion()
        except AWAY as error:
            self._complain(f"the store does not say who is champion: {_line(error)}")
            return
        if champion is None:
            self._complain("no version is champion any more; name one: sentiflow models promote")
        elif str(champion.version) == self.current.version:
            self._complain(None)
        elif self._refused is None or self._refused[0] != str(champion.version) or time.monotonic() >= self._refused[1]:
            self._change_to(champion)

    def _champion(self) -> ModelVersion | None:
        uri = mlflow.get_registry_uri()
        if uri.startswith(("http://", "https://")):
            requests.get(f"{uri.rstrip('/')}/health", timeout=KNOCK)  # MLflow itself would try again for a while
        elif uri.startswith("sqlite:") and not Path(sqlalchemy.make_url(uri).database or "").exists():
            raise InputError("its file is gone, and SQLite would make an empty one; put it back")
        return model_versions.champion(self.client)

    def _change_to(self, champion: ModelVersion) -> None:
        version = str(champion.version)
        try:
            newer = served(model_versions.opened(self.client, champion))
        except AWAY as error:
            self._refused = version, time.monotonic() + REST
            self._complain(f"version {version} is champion, but cannot be opened: {_line(error)}")
        except Exception as error:  # a fault of ours in this thread must neither end it nor stay unseen
            log.exception("version %s could not be opened", version)
            self._refused = version, time.monotonic() + REST
            self._complain(f"version {version} is champion, but cannot be opened: {type(error).__name__}")
        else:
            before = self.current
            self.current = newer
            self._refused = None
            self.trouble = None
            log.info("now serving version %s (%s), before it version %s", newer.version, newer.architecture, before.version)

    def _complain(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            if trouble:
                log.warning("still serving version %s: %s", self.current.version, trouble)
            else:
                log.info("all is well again, serving version %s", self.current.version)
        self.trouble = trouble


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]


# --- the server -----------------------------------------------------------------------------------------------------------


class Application:
    """Checks every request, and hands what is left of it, its texts, to MLflow's scoring server of the current version.

    MLflow gets the texts in a form of our own and never the body that was sent. So a request has one meaning only, and cannot
    make use of what MLflow does with other forms: of 1,000 texts as `inputs`, it makes an array in which each text takes the
    space of the longest.
    """

    def __init__(self, watch: Watch, limits: Serve, table: TableSource) -> None:
        self.watch = watch
        self.limits = limits
        self.table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"received {scope['type']}, expected http, which is all that uvicorn is told to speak")
        current = self.watch.current  # once, so that one version answers
        body = _Body(scope, receive, self.limits.body_seconds)
        try:
            answer = await self._answer(current, scope, body)
        except _GoneError:
            return
        except RefusedError as refused:
            answer = JSONResponse({"error": str(refused)}, refused.status, refused.headers)
        answer.headers["x-model-version"] = current.version
        answer.headers["x-content-type-options"] = "nosniff"
        answer.headers["cache-control"] = "no-store"
        await body.answer(answer, send)

    async def _answer(self, current: Served, scope: Scope, body: "_Body") -> Response:
        headers = Headers(scope=scope)
        if not OWN_NAME.fullmatch(headers.get("host", "")):
            raise RefusedError(421, f"received another host than {HOST} or localhost; ask the server under its own name")
        path = scope["path"]
        if path not in PATHS:
            raise RefusedError(404, f"received a path that is not here, expected one of {', '.join(PATHS)}; correct it")
        if scope["method"] != PATHS[path]:
            raise RefusedError(405, f"received another method, expected {PATHS[path]} for {path}; use it", {"allow": PATHS[path]})
        if path == "/health":
            trouble = self.watch.trouble
            told = {"status": "degraded", "reason": trouble} if trouble else {"status": "ok"}
            return JSONResponse(told | {"version": current.version})
        if path == "/version":
            return JSONResponse(
                {
                    "model": store.MODEL,
                    "version": current.version,
                    "architecture": current.architecture,
                    "mlflow": metadata.version("mlflow"),
                    "since": current.since,
                }
            )
        if path == "/ping":
            return await _ask(current, scope, b"", body.receive)
        kind = _media_type(headers)
        content = await body.read(self.limits.max_bytes)
        payload = await asyncio.to_thread(self._payload, content, kind)
        return await _ask(current, scope, payload, body.receive)

    def _payload(self, content: bytes, kind: str) -> bytes:
        texts = texts_of(content, kind, self.limits, self.table)
        return json.dumps({"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}}).encode()


def _media_type(headers: Headers) -> str:
    wanted = "expected application/json or text/csv, in UTF-8 and not compressed; send that"
    kind, *parameters = (part.strip() for part in headers.get("content-type", "").lower().split(";"))
    charsets = {part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset")}
    if kind not in MEDIA_TYPES or not charsets <= {"utf-8", "utf8"}:
        raise RefusedError(415, f"received another content type, {wanted}")
    if headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, f"received a compressed body, {wanted}")
    return kind


async def _ask(current: Served, scope: Scope, payload: bytes, rest: Receive) -> Response:
    """What MLflow's scoring server answers, if that is an answer; its errors hold traces and texts, so they are replaced."""
    waiting: list[Message] = [{"type": "http.request", "body": payload, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop() if waiting else await rest()

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
    await current.app({**scope, "headers": headers, "query_string": b""}, receive, send)
    status = next((message["status"] for message in sent if message["type"] == "http.response.start"), 500)
    if status == 504:
        raise RefusedError(504, "received texts that took too long to answer, expected fewer; send them in several requests")
    if status != 200:
        raise RefusedError(500, f"version {current.version} could not answer; the server's log says why")
    return Response(b"".join(message.get("body", b"") for message in sent), media_type="application/json")


class _GoneError(Exception):
    """The client left."""


class _Body:
    """What is still to come of a request."""

    def __init__(self, scope: Scope, receive: Receive, seconds: float) -> None:
        headers = Headers(scope=scope)
        self.receive = receive
        self._declared = headers.get("content-length", "0")
        self._ended = self._declared == "0" and "transfer-encoding" not in headers
        self._seconds = seconds
        self._until = asyncio.get_running_loop().time() + seconds

    async def read(self, limit: int) -> bytes:
        """The whole of it.

        Raises:
            RefusedError: if it is larger than `limit` bytes, or not there in time; what is beyond was not kept.
        """
        too_large = RefusedError(413, f"received more than {limit:,} bytes, expected at most that; send fewer or shorter texts")
        if self._declared.isdecimal() and int(self._declared[:20]) > limit:
            raise too_large
        held = bytearray()
        try:
            while not self._ended:
                held += await self._next()
                if len(held) > limit:
                    raise too_large
        except TimeoutError:
            raise RefusedError(
                408, f"received part of a body within {self._seconds:g} s, expected all of it; send it faster"
            ) from None
        return bytes(held)

    async def answer(self, answer: Response, send: Send) -> None:
        """Sends an answer, then drops what is still to come of the request: cut off, its sender might never read the answer."""
        start: Message = {"type": "http.response.start", "status": answer.status_code, "headers": list(answer.raw_headers)}
        if self._ended:
            await send(start)
            await send({"type": "http.response.body", "body": answer.body})
            return
        await asyncio.sleep(0)  # if the body is no HTTP, uvicorn has said so by then and ended the connection
        start["headers"].append((b"connection", b"close"))
        await send(start)
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        with contextlib.suppress(TimeoutError, _GoneError):
            while not self._ended:
                await self._next()
        await send({"type": "http.response.body"})

    async def _next(self) -> bytes:
        async with asyncio.timeout_at(self._until):
            message = await self.receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        self._ended = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


def protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's HTTP, but with a limit to how long a client can hold a connection without sending a whole request.

    A connection is closed if its request does not begin, or its answer is not read, within so many seconds: uvicorn itself would
    wait forever. If there are CONNECTIONS of them, the one that has waited longest for its client makes room for another.
    """

    class Impatient(H11Protocol):
        waiting: asyncio.TimerHandle | None = None
        unread: asyncio.TimerHandle | None = None
        since = 0.0  # when the client got its last answer, or connected
        aborted = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # `pause_writing` is called as soon as an answer has to wait
            self.since = self.loop.time()
            self._make_room()
            self._wait()

        def _make_room(self) -> None:
            others = [each for each in self.connections if isinstance(each, Impatient) and each is not self and not each.aborted]
            if len(others) >= CONNECTIONS and (waiting := [each for each in others if each.waits_for_client()]):
                min(waiting, key=lambda each: each.since).abort()

        def waits_for_client(self) -> bool:
            return self.cycle is None or self.cycle.response_complete or self.cycle.more_body or self.flow.write_paused

        def abort(self) -> None:
            self.aborted = True
            self.transport.abort()

        def pause_writing(self) -> None:
            super().pause_writing()
            self.unread = self.loop.call_later(seconds, self.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.unread is not None:
                self.unread.cancel()

        def handle_events(self) -> None:
            try:
                super().handle_events()
            except LocalProtocolError:  # what came is no HTTP, and uvicorn says so in the midst of another answer
                self.abort()
            self._wait()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.since = self.loop.time()
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._end_wait()

        def _wait(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._end_wait()
            elif self.waiting is None and not self.transport.is_closing():
                self.waiting = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

        def _end_wait(self) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None

    return Impatient


def serve(port: int) -> None:
    """Serves the champion until a signal comes.

    Args:
        port: of HOST; 0 takes any that is free.

    Raises:
        InputError: if there is no champion, or the port is taken.
    """
    p = settings.load()
    limits = p.serve
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # a store that is away is told of once, by the watch
    with _listening(port) as listener:
        watch = Watch(store.connect(), served(predict.opened(None)))
        config = uvicorn.Config(
            Application(watch, limits, p.download.table),
            loop="asyncio",
            http=protocol(limits.body_seconds),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=2 * CONNECTIONS,  # uvicorn also counts connections and tasks that are about to end
        )
        for each in (signal.SIGTERM, signal.SIGINT):  # uvicorn ends well first, and raises the signal anew
            signal.signal(each, _end)
        gc.freeze()  # or a request of many small lists has the collector go through all of MLflow again and again
        stop = threading.Event()
        threading.Thread(target=watch.follow, args=(limits.poll_seconds, stop), daemon=True).start()
        address = "http://{}:{}".format(*listener.getsockname())
        log.info(
            "serving version %s (%s) with MLflow's scoring server at %s ; try:\n"
            "  curl %s/invocations --json '{\"inputs\": [\"A film I loved.\"]}'",
            watch.current.version, watch.current.architecture, address, address,
        )  # fmt: skip
        try:
            uvicorn.Server(config).run([listener])
        finally:
            stop.set()


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(CONNECTIONS)
    except OSError as error:
        listener.close()
        raise InputError(
            f"port {port} of {HOST} cannot be taken ({error.strerror}); give another one: sentiflow serve --port 8001"
        ) from None
    return listener


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
