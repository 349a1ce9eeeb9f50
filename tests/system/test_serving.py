"""A real server on a real store: two small versions, the alias `champion` moving between them, and clients of every kind."""

import contextlib
import dataclasses
import gzip
import io
import itertools
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import commands
import full_disks
import pandas as pd
import psutil
import pytest
import requests
from publications import fitted
from samples import reviews

from sentiflow.pipeline import isolated_run
from sentiflow.registry import model_versions, publishing, store
from sentiflow.serving import server as server_of
from sentiflow.system.errors import UnavailableError

TOP = Path(__file__).parents[2]
BODY_SECONDS = 2
PATIENCE = 60.0  # seconds for what takes one or two
TEXTS = reviews(40)[0].tolist()


@dataclasses.dataclass
class Project:
    folder: Path
    client: object
    versions: list  # of nb_svm, of logistic, and of nb_svm again, whose files were changed after it was registered
    answers: dict  # by version and text

    def crown(self, version):
        model_versions.set_alias(self.client, model_versions.CHAMPION, version)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    changes = {"serve.poll_seconds": 0.2, "serve.body_seconds": float(BODY_SECONDS), "serve.max_bytes": 2_000_000}
    (folder / "params.yaml").write_text(isolated_run.with_changes((TOP / "params.yaml").read_text(encoding="utf-8"), changes))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # its whole path: MLflow keeps one connection for each name of a store, whatever folder it was opened in
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        client = store.connect()
        parent = publishing.retraining(client, "r" * 64)
        made = [
            publishing.publish(client, fitted(folder, name, key), parent=parent)
            for name, key in (("nb_svm", "a"), ("logistic", "b"), ("nb_svm", "c"))
        ]
        found = Project(folder, client, [str(version.version) for version in made], {})
        for version in made[:2]:
            answers = model_versions.opened(client, version).model.predict(TEXTS).to_dict("records")
            found.answers[str(version.version)] = dict(zip(TEXTS, answers, strict=True))
        damaged = Path(client.get_model_version_download_uri("sentiflow", made[2].version).removeprefix("file://"))
        with (damaged / "artifacts/bundle/model/weights.npz").open("r+b") as file:
            file.seek(-200, os.SEEK_END)
            file.write(b"x")
        found.crown(found.versions[0])
        yield found


def own_environment():
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "_MLFLOW_IS_IN_SERVING_ENVIRONMENT")
    return {name: value for name, value in os.environ.items() if name not in names}


class Server:
    """A server's process, and all it has written."""

    def __init__(self, folder, port=0):
        self.lines = []
        command = [sys.executable, "-m", "sentiflow", "serve", "--port", str(port)]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=own_environment())
        self._reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stderr.readline, "")), daemon=True)
        self._reader.start()
        try:
            soon(lambda: "curl" in self.written or self.process.poll() is not None)
            assert self.process.poll() is None, self.written
        except AssertionError:
            self.kill()
            raise
        self.url = re.search(r"http://127\.0\.0\.1:\d+", self.written)[0]
        self.port = int(self.url.rpartition(":")[2])

    @property
    def written(self):
        return "".join(self.lines)

    def get(self, path):
        return requests.get(self.url + path, timeout=PATIENCE).json()

    def ends(self):
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.ends()
        self.process.stderr.close()


def soon(condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(project):
    started = Server(project.folder)
    try:
        yield started
    finally:
        started.kill()


def ask(session, server, texts):
    return session.post(f"{server.url}/invocations", json={"inputs": texts}, timeout=PATIENCE)


def test_it_says_who_serves_and_how_to_ask(server, project):
    version = project.versions[0]
    assert f"serving version {version} (nb_svm) with MLflow's scoring server at {server.url} ;" in server.written
    assert server.get("/health") == {"status": "ok", "version": version}
    assert server.get("/version")["architecture"] == "nb_svm"
    [command] = [line for line in server.lines if "curl" in line]
    body = re.search(r"--json '(.*)'", command)[1]
    answer = requests.post(f"{server.url}/invocations", data=body, headers={"content-type": "application/json"}, timeout=PATIENCE)
    assert answer.json()["predictions"][0]["label"] in ("negative", "positive")


def test_a_thousand_requests_while_the_champion_changes_have_no_error_and_one_version_each(server, project):
    first, other = project.versions[:2]
    settled = [(time.monotonic(), None, first)]  # when /version had reported a version, when the alias moved, the version
    numbers = itertools.count()
    sent_last = [0]
    enough = threading.Event()

    def work(_):
        found = []
        with requests.Session() as session:
            while not enough.is_set():
                number = sent_last[0] = next(numbers)
                texts = [TEXTS[number % len(TEXTS)], TEXTS[(3 * number) % len(TEXTS)]]
                sent = time.monotonic()
                answer = ask(session, server, texts)
                found.append(
                    (sent, time.monotonic(), texts, answer.status_code, answer.headers["x-model-version"], answer.json())
                )
                if number >= 1000 and len(settled) > 4:
                    enough.set()
        return found

    with ThreadPoolExecutor(20) as pool:
        clients = [pool.submit(work, i) for i in range(20)]
        try:
            for version in itertools.cycle([other, first]):
                goal = sent_last[0] + 100  # however busy the machine is
                soon(lambda goal=goal: sent_last[0] >= goal or any(client.done() for client in clients))
                if enough.is_set() or any(client.done() for client in clients):
                    break
                since, _, before = settled[-1]
                settled[-1] = (since, time.monotonic(), before)
                project.crown(version)
                soon(lambda version=version: server.get("/version")["version"] == version)
                settled.append((time.monotonic(), None, version))
        finally:
            enough.set()
    found = [each for client in clients for each in client.result()]
    assert len(found) >= 1000
    assert len(settled) > 4
    assert {status for _, _, _, status, _, _ in found} == {200}
    for _, _, texts, _, version, body in found:
        assert body == {"predictions": [project.answers[version][text] for text in texts]}
    judged = 0
    for since, until, version in settled:
        between = [each for each in found if each[0] > since and (until is None or each[1] < until)]
        assert {answered for _, _, _, _, answered, _ in between} <= {version}
        judged += len(between)
    assert judged > 200
    assert {version for *_, version, _ in found} == {first, other}
    assert f"now serving version {other} (logistic), previously version {first}" in server.written


def test_a_champion_that_was_changed_since_is_refused_and_the_one_before_goes_on(server, project):
    good, damaged = server.get("/version")["version"], project.versions[2]
    project.crown(damaged)
    soon(lambda: server.get("/health")["status"] == "degraded")
    health = server.get("/health")
    assert health["version"] == good
    assert f"version {damaged} is champion, but cannot be opened" in health["reason"]
    assert ask(requests, server, TEXTS[:1]).json()["predictions"] == [project.answers[good][TEXTS[0]]]
    project.crown(good)
    soon(lambda: server.get("/health")["status"] == "ok")
    assert server.written.count(f"version {damaged} is champion, but cannot be opened") == 1


def test_a_store_that_is_away_for_a_while_changes_nothing_but_health(server, project):
    version = server.get("/version")["version"]
    database, away = project.folder / "mlflow.db", project.folder / "mlflow.db.away"
    database.rename(away)
    try:
        soon(lambda: server.get("/health")["status"] == "degraded")
        assert "its file is missing" in server.get("/health")["reason"]
        assert ask(requests, server, TEXTS[:1]).headers["x-model-version"] == version
        assert not database.exists()
    finally:
        away.rename(database)
    soon(lambda: server.get("/health")["status"] == "ok")
    assert server.get("/version")["version"] == version


def connected(server, request):
    client = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    client.sendall(request)
    return client


def test_slow_clients_are_sent_away_and_hold_nobody_up(server):
    begun = time.monotonic()
    head = b"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n"
    slow = [connected(server, head + b'{"inputs"') for _ in range(20)]
    slower = [connected(server, b"POST /invocations HTTP/1.1\r\nhost: 127") for _ in range(20)]
    silent = [connected(server, b"") for _ in range(20)]
    try:
        assert ask(requests, server, TEXTS[:1]).status_code == 200
        assert time.monotonic() - begun < BODY_SECONDS
        for client in slow:
            assert client.recv(9999).startswith(b"HTTP/1.1 408 ")
        for client in [*slower, *silent]:
            assert client.recv(9999) == b""
        assert time.monotonic() - begun < BODY_SECONDS + 5
    finally:
        for client in [*slow, *slower, *silent]:
            client.close()


@pytest.mark.parametrize("chunked", [True, False])
def test_a_hundred_megabytes_are_refused_without_being_held(server, chunked):
    process = psutil.Process(server.process.pid)
    before, most = process.memory_info().rss, 0
    length = b"transfer-encoding: chunked" if chunked else b"content-length: 100000000"
    part = b"x" * 1_000_000
    head = b"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    with connected(server, head + length + b"\r\n\r\n") as client:
        for _ in range(100):
            client.sendall(b"f4240\r\n" + part + b"\r\n" if chunked else part)
            most = max(most, process.memory_info().rss)
        if chunked:
            client.sendall(b"0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(9999), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"].startswith("received more than 2,000,000 bytes, expected")
    assert most - before < 50e6


def test_what_is_no_http_ends_its_connection_and_nothing_else(server):
    head = b"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    both = head + b"transfer-encoding: chunked\r\ncontent-length: 100000000\r\n\r\n"
    for request, rest in (
        (both, b"no chunk\r\n"),
        (both + b"no chunk\r\n", b""),
        (b"no HTTP\r\n\r\n", b""),
        (b"\0" * 70_000, b""),
    ):
        with connected(server, request) as client, contextlib.suppress(ConnectionError):
            if rest:
                assert client.recv(9999).startswith(b"HTTP/1.1 413 ")
                client.sendall(rest)
            while client.recv(9999):
                pass
    assert ask(requests, server, TEXTS[:1]).status_code == 200
    assert "Traceback" not in server.written


TEXT = b'{"inputs": ["great"]}'
CHUNKED = b"transfer-encoding: chunked"


def request_of(kind=b"application/json", body=TEXT, *headers):
    length = [] if CHUNKED in headers else [b"content-length: %d" % len(body)]
    lines = [b"POST /invocations HTTP/1.1", b"host: localhost", b"connection: close", b"content-type: " + kind, *length, *headers]
    return b"\r\n".join([*lines, b"", body])


def of_path(path=b"/health", *headers):
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"host: localhost", b"connection: close", *headers, b"", b""])


# what a client sends within the 64 kB that a head may have and the 2 MB of a body, and the status of the answer
SENT = {
    "a content type of semicolons": (request_of(b'application/json; a="' + b";" * 60_000), 200),
    "a content type of continuations": (request_of(b"application/json" + b"; a*0=x" * 8000), 200),
    "a charset of quotes": (request_of(b'application/json; charset="' + b'\\"' * 30_000), 415),
    "many headers": (of_path(b"/health", *[b"a:b"] * 10_000), 200),
    "one long header": (of_path(b"/health", b"a: " + b" " * 60_000 + b"b"), 200),
    "a folded header": (of_path(b"/health", b"a: b" + b"\r\n c" * 14_000), 200),
    "more headers than a head may have": (of_path(b"/health", *[b"a:b"] * 200_000), 400),
    "a long query": (of_path(b"/health?" + b"&" * 60_000), 200),
    "a path of percents": (of_path(b"/" + b"%" * 60_000), 404),
    "many things to accept": (of_path(b"/health", b"accept: " + b"a/b;q=0.1," * 6000), 200),
    "another encoding of transfer": (request_of(b"text/csv", b"", b"transfer-encoding: gzip, chunked"), 400),
    "two lengths": (request_of(b"text/csv", TEXT, b"content-length: 1"), 400),
    "two hosts": (of_path(b"/health", b"host: localhost"), 400),
    "a long length": (of_path(b"/health", b"content-length: " + b"9" * 5000), 400),
    "a strange expectation": (request_of(b"application/json", TEXT, b"expect: 200-maybe"), 200),
    "an upgrade": (of_path(b"/health", b"upgrade: websocket", b"connection: upgrade"), 200),
    "a large extension of a chunk": (
        request_of(b"application/json", b"15;" + b"x" * 60_000 + b"\r\n" + TEXT + b"\r\n0\r\n\r\n", CHUNKED),
        200,
    ),
    "a huge extension of a chunk": (request_of(b"application/json", b"15;" + b"x" * 600_000, CHUNKED), 400),
    "a huge size of a chunk": (request_of(b"application/json", b"f" * 60_000, CHUNKED), 400),
    "tiny chunks": (request_of(b"application/json", b"1\r\n \r\n" * 10_000 + b"0\r\n\r\n", CHUNKED), 400),
    "a compressed body": (request_of(b"application/json", gzip.compress(b" " * 10**7), b"content-encoding: gzip"), 415),
    "a million keys": (request_of(body=b"{" + b'"":1,' * 390_000 + b'"a":1}'), 400),
    "a number of a million digits": (request_of(body=b'{"inputs": [' + b"1" * 1_000_000 + b"]}"), 400),
    "deep lists": (request_of(body=b'{"inputs": ' + b"[" * 1_000_000), 400),
    "many lists": (request_of(body=b'{"dataframe_split": {"data": [' + b"[]," * 500_000 + b"[]]}}"), 400),
    "half a character": (request_of(body=b'{"inputs": ["\\udcff"]}'), 400),
    "a zero": (request_of(body=b'{"inputs": ["a\\u0000b"]}'), 200),
    "many columns": (request_of(b"text/csv", b"," * 1_900_000), 400),
    "marks of byte order": (request_of(body=b"\xef\xbb\xbf" + TEXT), 200),
}


@pytest.mark.parametrize("name", SENT)
def test_one_request_of_any_form_is_answered_and_takes_little_of_the_server_s_time(server, name):
    request, status = SENT[name]
    process = psutil.Process(server.process.pid)
    before = process.cpu_times().user
    with connected(server, b"") as client, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        client.sendall(request)
        assert client.recv(9999).startswith(b"HTTP/1.1 %d " % status)
    assert process.cpu_times().user - before < 5
    assert ask(requests, server, TEXTS[:1]).status_code == 200
    assert "Traceback" not in server.written


def test_requests_that_are_sent_before_their_answers_are_answered_in_their_order(server):
    keep = [request.replace(b"connection: close\r\n", b"") for request in (request_of(), of_path(b"/nowhere"), of_path())]
    with connected(server, b"".join(keep * 20) + of_path(b"/version")) as client:
        answers = b"".join(iter(lambda: client.recv(9999), b""))
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answers) == [b"200", b"404", b"200"] * 20 + [b"200"]


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked_or_refused(server):
    head = request_of(b"application/json", b"", b"expect: 100-continue").replace(b"content-length: 0", b"content-length: 21")
    with connected(server, head) as client:
        assert client.recv(9999) == b"HTTP/1.1 100 Continue\r\n\r\n" or client.recv(9999)
        client.sendall(TEXT)
        assert client.recv(9999).startswith(b"HTTP/1.1 200 ")
    with connected(server, head.replace(b"/invocations", b"/nowhere")) as client:
        assert client.recv(9999).startswith(b"HTTP/1.1 404 ")


INCOMPLETE = {
    "silent": b"",
    "half a head": b"POST /invocations HTTP/1.1\r\nhost: 127",
    "half a body": request_of(body=TEXT)[:-5],
    "answered before": of_path().replace(b"connection: close\r\n", b""),
}


@pytest.mark.parametrize("kind", INCOMPLETE)
def test_connections_that_wait_for_their_client_make_room_for_another(server, kind):
    """As many as there may be, and more: all of them from this machine, as any client of this server is."""
    held = []
    try:
        for _ in range(3 * server_of.CONNECTIONS):
            held.append(connected(server, INCOMPLETE[kind]))
        for _ in range(3):
            assert ask(requests, server, TEXTS[:1]).status_code == 200
    finally:
        for client in held:
            client.close()


def connections_of(server):
    established = [each for each in psutil.Process(server.process.pid).net_connections() if each.status != "LISTEN"]
    return len(established)


def test_clients_that_read_no_answer_are_dropped_and_hold_nobody_up(server):
    request = request_of(body=json.dumps({"inputs": ["a"] * 1000}).encode()).replace(b"connection: close\r\n", b"")
    soon(lambda: connections_of(server) == 0)
    held = []
    try:
        for _ in range(5):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(("127.0.0.1", server.port))
            client.settimeout(0.5)
            held.append(client)
            with contextlib.suppress(TimeoutError, ConnectionError):
                client.sendall(request * 60)  # answers of 5 MB
        assert ask(requests, server, TEXTS[:1]).status_code == 200
        soon(lambda: connections_of(server) == 0)
    finally:
        for client in held:
            client.close()


def test_it_answers_after_kill_9_and_restart_and_drops_no_request_when_it_is_told_to_end(server, project):
    version = server.get("/version")["version"]
    server.process.kill()
    assert server.ends() == -signal.SIGKILL
    again = Server(project.folder, server.port)
    try:
        assert again.get("/version")["version"] == version
        texts = [f"{' '.join(TEXTS)} {i}"[:4000] for i in range(400)]
        with ThreadPoolExecutor(12) as pool:
            running = [pool.submit(ask, requests, again, texts) for _ in range(12)]
            soon(lambda: sum(c.status == "ESTABLISHED" for c in psutil.Process(again.process.pid).net_connections()) >= 12)
            time.sleep(0.2)
            again.process.terminate()
            unfinished = sum(not each.done() for each in running)
            answers = [each.result().status_code for each in running]
        assert unfinished > 0
        assert answers == [200] * 12
        assert again.ends() == 0
        assert "Traceback" not in again.written
        with pytest.raises(requests.ConnectionError):
            again.get("/health")
    finally:
        again.kill()


def test_predict_answers_a_text_and_a_file_as_the_version_does(project, capsys):
    champion = str(model_versions.champion(project.client).version)
    [other] = {*project.versions[:2]} - {champion}
    status, out, _ = commands.run(capsys, "predict", "--text", TEXTS[0], "--version", other)
    expected = project.answers[other][TEXTS[0]]
    assert status == 0
    assert out.startswith(f"{expected['label']}  (version {other} (")
    assert f"positive  {expected['p_positive']:.4f}" in out

    # a file of the folder that the stage `download` depends on: nothing is written there
    file = Path("data/external/reviews.csv")
    file.parent.mkdir(parents=True)
    pd.DataFrame({"id": range(len(TEXTS)), "review": TEXTS}).to_csv(file, index=False)
    status, out, _ = commands.run(capsys, "predict", file)
    assert status == 0
    made = "predictions/reviews.predictions.csv"
    assert re.fullmatch(rf"version {champion} \(\w+\) predicted 40 rows of column 'review': {re.escape(made)}\n", out)
    assert [path.name for path in file.parent.iterdir()] == ["reviews.csv"]
    answers = pd.read_csv(made).drop(columns=["id", "review"]).rename(columns={"predicted": "label"})
    pd.testing.assert_frame_equal(answers, pd.DataFrame([project.answers[champion][text] for text in TEXTS]))


@pytest.mark.parametrize("text", ["--help is a great film", '$HOME `id` "great" \'', "great \x1b[31m \u4e2d\u6587", "-"])
def test_predict_takes_a_text_that_begins_with_a_dash_or_holds_anything(project, monkeypatch, capsys, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"great, from outside")))
    champion = model_versions.champion(project.client)
    model = model_versions.opened(project.client, champion).model
    [expected] = model.predict(["great, from outside" if text == "-" else text])["p_positive"]
    status, out, _ = commands.run(capsys, "predict", "--text", text)
    assert status == 0
    assert f"positive  {expected:.4f}" in out
    assert "\x1b" not in out


def test_a_version_that_is_not_there_is_an_error(project, capsys):
    status, _, err = commands.run(capsys, "predict", "--text", "a", "--version", "99")
    assert status == 1
    assert "error: received version '99', but sentiflow has no such version" in err


def predicted(project, *prefix, **changes):
    """`predict` in a process of its own: exit status and what it said."""
    command = [*prefix, sys.executable, "-m", "sentiflow", "predict", "--text", "fine"]
    ended = subprocess.run(
        command,
        cwd=project.folder,
        env=own_environment() | changes,
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
        check=False,
    )
    return ended.returncode, ended.stderr.splitlines()[-1] if ended.returncode else ended.stdout


@pytest.mark.slow  # MLflow waits 20 s for a lock, twice
def test_a_store_that_another_process_has_locked_is_waited_for_and_then_said_to_be_busy(project):
    assert predicted(project)[0] == 0
    with contextlib.closing(sqlite3.connect(project.folder / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        status, said = predicted(project)
        with pytest.raises(UnavailableError) as raised, store.errors_handled():  # it was open before
            model_versions.champion(project.client)
        other.execute("ROLLBACK")
    assert status == os.EX_TEMPFAIL
    for message in (said, str(raised.value)):
        assert "is locked: another process is writing to it" in message
        assert message.endswith("then run the same command again")


def test_a_full_disk_of_temporary_files_is_said(project, tmp_path):
    try:
        with full_disks.mounted(tmp_path / "small") as disk, full_disks.full(disk, 100_000):
            status, said = predicted(project, TMPDIR=str(disk))
    except full_disks.CannotMountError as error:
        pytest.skip(str(error))
    assert status == 1
    assert said.endswith(f"to {disk} for its check; free some space, or set TMPDIR to a folder on another disk, then run again")


def test_where_no_temporary_folder_can_be_written_that_is_said(project):
    status, said = predicted(project, "bash", "-c", 'ulimit -f 0; exec "$@"', "-")
    assert status == 1
    assert said.startswith("error: No usable temporary directory found in [")
    assert said.endswith("these disks may be full; free some space, or set TMPDIR to a folder on another, and run again")


@pytest.mark.parametrize("command", ["serve --port 0", "predict --text a"])
def test_without_a_champion_there_is_neither_server_nor_answer(project, capsys, command):
    champion = str(model_versions.champion(project.client).version)
    project.crown(None)
    try:
        status, _, err = commands.run(capsys, *command.split())
    finally:
        project.crown(champion)
    assert status == 1
    assert "error: no registered version is champion; train and register with `sentiflow repro`, then run" in err
