"""Settings, archives and a configurable web server."""

import http.server
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sentiflow.config import params
from sentiflow.config.params import Download

SHIPPED = params.load().download.model_dump() | {"max_rejected": 1.0}
SMALL: dict[str, dict[str, Any]] = {
    "package": {},
    "csv": {"location": "reviews.csv"},
    "tsv": {"location": "tweets.tsv"},
    "folder": {"location": "reviews", "max_bytes": 5_000_000},
    "aclimdb": {"location": "aclImdb_v1.tar.gz", "sha256": None, "max_bytes": 5_000_000},
}


@pytest.fixture
def settings() -> Callable[..., Download]:
    """settings("csv", max_rejected=0.1, location=...): keys of the section of the source are set there."""

    def build(source: str, **changes: object) -> Download:
        own = SHIPPED[source] | SMALL[source]
        section = {key: changes.pop(key, value) for key, value in own.items()}
        return Download.model_validate(SHIPPED | {"source": source, source: section} | changes)

    return build


@pytest.fixture
def write_archive(tmp_path: Path) -> Callable[..., Path]:
    """A .tar.gz of texts by name, and of other members."""

    def write(texts: dict[str, bytes], *others: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> Path:
        path = tmp_path / "aclImdb_v1.tar.gz"
        with tarfile.open(path, "w:gz", format=form) as archive:
            for name, content in texts.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            for member in others:
                archive.addfile(member, io.BytesIO(bytes(member.size)))
        return path

    return write


class Site(http.server.ThreadingHTTPServer):
    """Serves `content` at any path, after one of `answers` per request. `asked` has the headers of each request."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.etag = '"first"'
        self.ranges = True
        self.answers: list[Callable[[Handler], None]] = []
        self.asked: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/files/reviews.csv"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers))
        if self.server.answers:
            self.server.answers.pop(0)(self)
        else:
            self.give()

    def give(self, *, cut: int = 0) -> None:
        """The requested range of the content; closes the connection before the last `cut` bytes."""
        start = 0
        if self.server.ranges and self.headers.get("If-Range") == self.server.etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.server.content) - 1}/{len(self.server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.server.etag)
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])
        self.close_connection = cut > 0

    def refuse(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(bytes(range(256)) * 4000) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
