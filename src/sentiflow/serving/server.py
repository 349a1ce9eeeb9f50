"""Serves the champion over HTTP: MLflow's scoring server behind limits, following the alias `champion`.

The header x-model-version of every response names the version. MLflow documents the body of /invocations.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
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
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sentiflow.config.params import Serve, TableSource
from sentiflow.models import sentiment_model
from sentiflow.serving import predict
from sentiflow.serving.request_body import texts_of
from sentiflow.system.errors import InputError

log = logging.getLogger("sentiflow")

HOST = "127.0.0.1"
# against DNS rebinding: another name that resolves to this machine is refused
OWN_NAME = re.compile(r"(127\.0\.0\.1|localhost\.?|\[::1\])(:[0-9]*)?", re.IGNORECASE | re.ASCII)
CONNECTIONS = 128  # concurrent; each has one request at most
STORE_TIMEOUT = 5.0  # seconds, of a store behind HTTP
RETRY = 60.0  # seconds until a version that could not be opened is tried again
PATHS = {"/ping": "GET", "/health": "GET", "/version": "GET", "/invocations": "POST"}
AWAY = (InputError, MlflowException, SQLAlchemyError, requests.RequestException, OSError)


@dataclass(frozen=True)
class Served:
    """A version and MLflow's scoring server for it."""

    version: str
    architecture: str
    since: str  # ISO 8601
    app: ASGIApp


class _Model:
    """The model that MLflow's server calls, from any of its threads: one request at a time, as models are not thread-safe."""

    def __init__(self, opened: model_versions.Opened) -> None:
        self._opened = opened
        self._lock = threading.Lock()

    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        try:
            with self._lock:
                return self._opened.model.predict(model_input.iloc[:, 0].tolist())
        except Exception:  # MLflow puts it into its response, which is not passed on
            log.exception("version %s failed to predict %s texts", self._opened.version, len(model_input))
            raise


def served(opened: model_versions.Opened) -> Served:
    """A version that has made one prediction through MLflow, signature included, so that the first request is fast."""
    model = PyFuncModel(opened.metadata, _Model(opened))
    try:
        model.predict(pd.DataFrame({"text": list(sentiment_model.PROBE)}))
    except MlflowException as error:
        raise InputError(f"version {opened.version} is refused: MLflow cannot call it ({_line(error)})") from None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Served(opened.version, opened.architecture, now, scoring_server.init(model))


class Watch:
    """The version that is served; follows the alias `champion`.

    `current` is replaced by one assignment, so a request that read it once is answered by one version.
    """

    def __init__(self, client: MlflowClient, current: Served) -> None:
        self.client = client
        self.current = current
        self.trouble: str | None = None  # why a newer champion is not served, or why the champion is unknown
        self._refused: tuple[str, float] | None = None  # a version, and when to retry it

    def follow(self, seconds: float, stop: threading.Event) -> None:
        while not stop.wait(seconds):
            self.look()

    def look(self) -> None:
        """Polls once, and changes to a new champion if it can be opened. After any failure, the current version stays."""
        try:
            champion = self._champion()
        except AWAY as error:
            self._report(f"the store does not name the champion: {_line(error)}")
            return
        if champion is None:
            self._report("no version is champion any more; choose one: sentiflow models promote")
        elif str(champion.version) == self.current.version:
            self._report(None)
        elif self._refused is None or self._refused[0] != str(champion.version) or time.monotonic() >= self._refused[1]:
            self._change_to(champion)

    def _champion(self) -> ModelVersion | None:
        uri = mlflow.get_registry_uri()
        if uri.startswith(("http://", "https://")):
            requests.get(f"{uri.rstrip('/')}/health", timeout=STORE_TIMEOUT)  # MLflow itself would retry for a while
        elif uri.startswith("sqlite:") and not Path(sqlalchemy.make_url(uri).database or "").exists():
            raise InputError("its file is missing, and SQLite would create an empty one; restore it")
        return model_versions.champion(self.client)

    def _change_to(self, champion: ModelVersion) -> None:
        version, before = str(champion.version), self.current
        try:
            self.current = served(model_versions.opened(self.client, champion))
        except Exception as error:  # an unexpected one must neither end this thread nor stay unseen
            is_expected = isinstance(error, AWAY)
            if not is_expected:
                log.exception("version %s could not be opened", version)
            self._refused = version, time.monotonic() + RETRY
            reason = _line(error) if is_expected else type(error).__name__
            self._report(f"version {version} is champion, but cannot be opened: {reason}")
        else:
            self._refused = self.trouble = None
            log.info("now serving version %s (%s), previously version %s", version, self.current.architecture, before.version)

    def _report(self, trouble: str | None) -> None:
        if trouble and trouble != self.trouble:
            log.warning("still serving version %s: %s", self.current.version, trouble)
        elif self.trouble and not trouble:
            log.info("recovered, serving version %s", self.current.version)
        self.trouble = trouble


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]


class Application:
    """Checks every request, and passes its texts to MLflow's scoring server of the current version.

    MLflow gets the texts in one fixed form, never the body that was sent. So a request has one meaning only, and cannot exploit
    how MLflow parses other forms: from 1,000 texts as `inputs`, it makes an array with the length of the longest for each.
    """

    def __init__(self, watch: Watch, limits: Serve, table: TableSource) -> None:
        self.watch = watch
        self.limits = limits
        self.table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        current = self.watch.current  # once, so that one version answers
        body = _Body(scope, receive, self.limits.body_seconds)
        try:
            response = await self._respond(current, scope, body)
        except ClientDisconnect:
            return
        except HTTPException as error:
            response = JSONResponse({"error": error.detail}, error.status_code, error.headers)
        response.headers["x-model-version"] = current.version
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["cache-control"] = "no-store"
        await body.respond(response, send)

    async def _respond(self, current: Served, scope: Scope, body: "_Body") -> Response:
        headers = Headers(scope=scope)
        if not OWN_NAME.fullmatch(headers.get("host", "")):
            raise HTTPException(421, f"received another host than {HOST} or localhost; use the server's own name")
        path = scope["path"]
        if path not in PATHS:
            raise HTTPException(404, f"received an unknown path, expected one of {', '.join(PATHS)}")
        if scope["method"] != PATHS[path]:
            raise HTTPException(405, f"received another method, expected {PATHS[path]} for {path}", {"allow": PATHS[path]})
        if path == "/health":
            trouble = self.watch.trouble
            status = {"status": "degraded", "reason": trouble} if trouble else {"status": "ok"}
            return JSONResponse(status | {"version": current.version})
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
        payload = b""
        if path == "/invocations":
            kind = _media_type(headers)
            content = await body.read(self.limits.max_bytes)
            payload = await asyncio.to_thread(self._payload, content, kind)
        return await _ask(current, scope, payload, body.receive)

    def _payload(self, content: bytes, kind: str) -> bytes:
        texts = texts_of(content, kind, self.limits, self.table)
        return json.dumps({"dataframe_split": {"columns": ["text"], "data": [[text] for text in texts]}}).encode()


def _media_type(headers: Headers) -> str:
    expected = "expected application/json or text/csv, in UTF-8 and not compressed"
    kind, *parameters = (part.strip() for part in headers.get("content-type", "").lower().split(";"))
    charsets = {part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset")}
    if kind not in ("application/json", "text/csv") or not charsets <= {"utf-8", "utf8"}:
        raise HTTPException(415, f"received another content type, {expected}")
    if headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, f"received a compressed body, {expected}")
    return kind


async def _ask(current: Served, scope: Scope, payload: bytes, rest: Receive) -> Response:
    """The response of MLflow's scoring server. Its errors, which contain tracebacks and texts, are replaced."""
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
        raise HTTPException(504, "prediction timed out; send fewer texts per request")
    if status != 200:
        raise HTTPException(500, f"version {current.version} failed; see the server's log")
    return Response(b"".join(message.get("body", b"") for message in sent), media_type="application/json")


class _Body:
    """The body of a request, as far as it is not read yet."""

    def __init__(self, scope: Scope, receive: Receive, seconds: float) -> None:
        headers = Headers(scope=scope)
        self.receive = receive
        self._declared = headers.get("content-length", "0")
        self._ended = self._declared == "0" and "transfer-encoding" not in headers
        self._seconds = seconds
        self._until = asyncio.get_running_loop().time() + seconds

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            HTTPException: if it is larger than `limit` bytes, of which no more are kept in memory, or late.
        """
        too_large = HTTPException(413, f"received more than {limit:,} bytes, expected at most that; send fewer or shorter texts")
        if self._declared.isdecimal() and int(self._declared[:20]) > limit:
            raise too_large
        content = bytearray()
        try:
            while not self._ended:
                content += await self._next()
                if len(content) > limit:
                    raise too_large
        except TimeoutError:
            raise HTTPException(408, f"received part of a body within {self._seconds:g} s, expected all of it") from None
        return bytes(content)

    async def respond(self, response: Response, send: Send) -> None:
        """Sends a response, then drops the rest of the body: if the connection were closed, the client might not read it."""
        start: Message = {"type": "http.response.start", "status": response.status_code, "headers": list(response.raw_headers)}
        if self._ended:
            await send(start)
            await send({"type": "http.response.body", "body": response.body})
            return
        await asyncio.sleep(0)  # if the body is not HTTP, uvicorn has by then responded and closed the connection
        start["headers"].append((b"connection", b"close"))
        await send(start)
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        with contextlib.suppress(TimeoutError, ClientDisconnect):
            while not self._ended:
                await self._next()
        await send({"type": "http.response.body"})

    async def _next(self) -> bytes:
        async with asyncio.timeout_at(self._until):
            message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._ended = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


def protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's HTTP protocol with timeouts for slow clients.

    A connection is closed if its request does not begin, or its response is not read, within `seconds`: uvicorn itself would
    wait forever. When there are CONNECTIONS of them, a new one replaces the one that has waited longest for its client.
    """

    class Impatient(H11Protocol):
        waiting: asyncio.TimerHandle | None = None
        unread: asyncio.TimerHandle | None = None
        since = 0.0  # when the last response was complete, or the client connected
        aborted = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # `pause_writing` is called as soon as a response has to wait
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
            except LocalProtocolError:  # not HTTP, and uvicorn wanted to respond with an error in the middle of a response
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
    """Serves the champion until a signal arrives.

    Args:
        port: of HOST; 0 selects a free one.

    Raises:
        InputError: if there is no champion, or the port is taken.
    """
    p = settings.load()
    limits = p.serve
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # Watch reports an unavailable store, once
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
            limit_concurrency=2 * CONNECTIONS,  # uvicorn also counts those that are about to end
        )
        for each in (signal.SIGTERM, signal.SIGINT):  # uvicorn shuts down gracefully, then raises the signal again
            signal.signal(each, lambda *_: sys.exit(0))
        gc.freeze()  # otherwise a request of many small lists makes the collector scan all of MLflow repeatedly
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
    try:
        return socket.create_server((HOST, port), backlog=CONNECTIONS)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(
            f"port {port} of {HOST} is not available ({reason}); choose another: sentiflow serve --port 8001"
        ) from None
