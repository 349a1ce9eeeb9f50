"""Sources of reviews that change: a file, a folder, a web server; and the download of one."""

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import yaml

from sentiflow.config.params import Params
from sentiflow.data import data_card, source_changes, sources

TOP = Path(__file__).parents[1]
MOMENT = 1_700_000_000  # seconds since 1970: Last-Modified of the first content


def rows(count, *, first=0):
    """Rows of a CSV file, half of them positive."""
    words = {0: "a bore,negative", 1: "a joy,positive"}
    return [f"film {i} was {words[i % 2]}" for i in range(first, first + count)]


def csv(count, *, first=0):
    return "\n".join(["review,sentiment", *rows(count, first=first)]) + "\n"


def aclimdb(count=24):
    """Reviews of an unpacked folder, by file name."""
    texts = {}
    for i in range(count):
        split, label = ("train", "test")[i % 2], ("neg", "pos")[i // 2 % 2]
        texts[f"{split}/{label}/{i}_{9 if label == 'pos' else 2}.txt"] = f"review {i}"
    return texts


def unpack(folder, texts):
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def settings(chosen, *, again_hours=6.0, settle_seconds=0.001, attempts=2, method="stratified", **section):
    """Write params.yaml with another source, and read it. Retries have almost no delay."""
    values = yaml.safe_load((TOP / "params.yaml").read_text())
    values["download"]["source"] = chosen
    values["download"]["max_rejected"] = 0.5
    own = values["download"][chosen]
    own |= {key: None for key in own if key == "sha256"} | section
    values["watch"] = {"again_hours": again_hours, "settle_seconds": settle_seconds}
    values["retrain"] |= {"attempts": attempts, "wait_seconds": 0.01}
    values["split"]["method"] = method
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return Params.model_validate(values)


def download(p):
    """Read the source and write the data card, as the download stage does."""
    found = sources.load(p.download, source_changes.DOWNLOADS, seed=p.seed)
    source_changes.CARD.parent.mkdir(exist_ok=True)
    source_changes.CARD.write_text(json.dumps(data_card.describe(found, p.download.source)))
    return found


class Site(http.server.ThreadingHTTPServer):
    """One file at any path. `says` are the headers that it sends; `asked` the methods of all requests."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.says = {"ETag", "Last-Modified"}
        self.says_to_head = None  # if different from `says`
        self.refused = {}  # status by method
        self.weak = False
        self.salt = ""  # another ETag for the same bytes
        self.conditional = True
        self.chunked = False  # without Content-Length
        self.asked = []
        self.moment = MOMENT
        self.content = content.encode()

    def change(self, content):
        self.content = content.encode()
        self.moment += 60

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/reviews.csv"

    def headers(self, method):
        etag = f'"{hashlib.sha256(self.content + self.salt.encode()).hexdigest()[:16]}"'
        said = {"ETag": f"W/{etag}" if self.weak else etag, "Last-Modified": formatdate(self.moment, usegmt=True)}
        says = self.says if method == "GET" or self.says_to_head is None else self.says_to_head
        return {name: value for name, value in said.items() if name in says}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle(self):
        with contextlib.suppress(ConnectionError):  # the client may disconnect early
            super().handle()

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        site = self.server
        site.asked.append(self.command)
        status = site.refused.get(self.command, 200)
        headers = site.headers(self.command)
        etag = headers.get("ETag")
        if status == 200 and site.conditional and etag and self.headers.get("If-None-Match") == etag:
            status = 304
        body = site.content if status == 200 else b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if site.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif self.command == "GET" or "Content-Length" in site.says:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command == "GET" else b"")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(content) -> Iterator[Site]:
    with Site(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
