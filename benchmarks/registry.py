"""What two promotions at once, kills and bad requests make of the registry and of the server; beside them plain MLflow.

Figure 10 is of real processes on one SQLite store. Each is forked from one that has only imported what it needs, so that two
begin within milliseconds, and a kill meets the work and not the start. Figure 12 is of real servers of two small versions.

python benchmarks/registry.py [FIGURE ...] [--trials N]
"""

import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import random
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Annotated, Any

# before MLflow is imported
from sentiflow.registry import champion, champion_history, model_versions, publishing, store  # isort: skip

import mlflow
import psutil
import requests
import typer
from mlflow import MlflowClient

from sentiflow.pipeline import isolated_run
from sentiflow.registry.store import COMPLETE_TAG, KEY_TAG, MODEL
from sentiflow.system import entry_point, locks, markdown
from sentiflow.system.errors import InputError

TOP = Path(__file__).parents[1]
PROCESSES = multiprocessing.get_context("forkserver")
SLOWEST = 300.0  # seconds for anything here, on a busy machine
FOLDERS = ("here", "there")  # of the project, each with a lock of its own, as on two machines
BY_HAND = "reviews"  # the registered model of those who use MLflow alone
PASSED = "validation"  # the tag that their script sets
STEPS = {  # what the store shows of it
    "run": "SELECT count(*) FROM runs",
    "version": "SELECT count(*) FROM model_versions WHERE name != 'sentiflow-champions'",
    "tag": f"SELECT count(*) FROM model_version_tags WHERE key = '{PASSED}'",
    "entry": "SELECT count(*) FROM model_versions WHERE name = 'sentiflow-champions'",
    "previous": f"SELECT version FROM registered_model_aliases WHERE name = '{MODEL}' AND alias = 'previous'",
    "champion": f"SELECT version FROM registered_model_aliases WHERE name = '{MODEL}' AND alias = 'champion'",
}

BODY_SECONDS = 2.0
CHANGES = {"serve.body_seconds": BODY_SECONDS, "serve.poll_seconds": 0.2}
REQUESTS, CLIENTS = 500, 8
UNREPORTED = 2.0  # seconds that a server has for a switch which it does not report
HUGE = 100_000_000
ANSWER = 30.0  # seconds for an answer
TOO_MUCH = 6e9  # bytes of memory at which a server is ended


@dataclasses.dataclass
class Project:
    """Folders of a project on one store; this process works in the first of them."""

    top: Path
    client: MlflowClient
    publications: Mapping[str, publishing.Publication]  # by number of their version

    def aliased(self, alias: str) -> str:
        found = model_versions.with_alias(self.client, alias)
        return "" if found is None else str(found.version)

    def others(self) -> list[str]:
        """Versions that are not champion."""
        return [number for number in self.publications if number != self.aliased(model_versions.CHAMPION)]

    def is_whole(self) -> bool:
        """Whether `champion` names a version that was published as a whole."""
        return self.is_promotable(self.aliased(model_versions.CHAMPION))

    def is_promotable(self, number: str) -> bool:
        try:
            model_versions.version(self.client, number)
        except InputError:
            return False
        return True

    def agrees(self) -> bool:
        """Whether the aliases are what the history says, and the file that git keeps holds the same history."""
        entries = champion_history.history(self.client)
        named = [self.aliased(alias) for alias in (model_versions.PREVIOUS, model_versions.CHAMPION)]
        kept = champion_history.JOURNAL.read_text(encoding="utf-8").splitlines()[1:]
        return named == champion_history.line_of_succession(entries)[-2:] and len(kept) == len(entries)

    def promote(self, number: str) -> None:
        with champion_history.changing(self.client) as entries:
            champion_history.change(
                self.client, entries, model_versions.version(self.client, number), champion_history.FORCED, "for the figure"
            )

    def state(self, step: str) -> Any:
        with contextlib.closing(sqlite3.connect(f"file:{self.top}/mlflow.db?mode=ro", uri=True)) as database:
            return database.execute(STEPS[step]).fetchone()


def main(
    figures: Annotated[list[int] | None, typer.Argument(help="10 or 12; both where none is given")] = None,
    trials: Annotated[int, typer.Option(min=1, help="pairs of promotions, and kills after each step, in figure 10")] = 2,
    seed: Annotated[int, typer.Option(help="of the moments of the kills")] = 7,
) -> None:
    wanted = figures or [10, 12]
    if unknown := {*wanted} - {10, 12}:
        raise typer.BadParameter(f"received figure {min(unknown)}; there are 10 and 12")
    with tempfile.TemporaryDirectory(prefix="registry-") as name, _project(Path(name).resolve()) as project:
        for figure in wanted:
            started = time.monotonic()
            if figure == 10:
                figure_10(project, trials, random.Random(seed))
            else:
                figure_12(project)
            print(f"\n({time.monotonic() - started:.0f} s)\n", flush=True)


@contextlib.contextmanager
def _project(top: Path) -> Iterator[Project]:
    sys.path.insert(0, str(TOP / "tests"))
    import publications  # here: no process that is forked needs it

    for name in FOLDERS:
        (top / name).mkdir()
        text = isolated_run.with_changes((TOP / "params.yaml").read_text(encoding="utf-8"), CHANGES)
        (top / name / "params.yaml").write_text(text, encoding="utf-8")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{top}/mlflow.db"  # for every process that is started here
    os.environ.pop("MLFLOW_REGISTRY_URI", None)
    PROCESSES.set_forkserver_preload(["sentiflow.registry.champion"])
    forkserver.ensure_running()
    with contextlib.chdir(top / FOLDERS[0]):
        client = store.connect()
        parent = publishing.retraining(client, "r" * 64)
        made = [publications.fitted(top, name, key) for name, key in (("nb_svm", "a"), ("logistic", "b"), ("nb_svm", "c"))]
        numbers = [str(publishing.publish(client, each, parent=parent).version) for each in made]
        project = Project(top, client, dict(zip(numbers, made, strict=True)))
        project.promote(numbers[0])
        yield project


# --- 10: two promotions at once, and kills ----------------------------------------------------------------------------


def figure_10(project: Project, trials: int, drawn: random.Random) -> None:
    sources = [version.source for version in model_versions.versions(project.client)]
    for source in sources:
        _register_by_hand(source)

    print("Figure 10: two promotions of different versions, begun at once")
    columns = [
        "promoted by",
        "trials",
        "both judged against the same champion",
        "of these, both said they replaced it",
        "the later was told",
        "champion is one whole version",
        "history, champion and previous agree",
    ]
    rows = [_two_by_hand(project, trials), _two_of_ours(project, trials)]
    print("\n".join(markdown.markdown(columns, rows)), flush=True)

    print("\n`kill -9` after a step, then the same once more")
    columns = [
        "killed",
        "after its",
        "kills",
        "champion is one whole version",
        "left half-made, and can be promoted",
        "made twice in the end",
        "in the end history, champion and previous agree",
    ]
    rows = [
        *(_script_killed(project, step, trials, sources[0]) for step in ("version", "tag")),
        *(_publication_killed(project, step, trials, drawn) for step in ("run", "version")),
        *(_promotion_killed(project, step, trials, drawn) for step in ("entry", "previous", "champion")),
    ]
    print("\n".join(markdown.markdown(columns, rows)), flush=True)


def _two_by_hand(project: Project, trials: int) -> list[str]:
    found: Counter[str] = Counter()
    for _ in range(trials):
        now = str(project.client.get_model_version_by_alias(BY_HAND, "champion").version)
        others = [number for number in project.publications if number != now]
        barrier = PROCESSES.Barrier(2)
        said = _said(project, _both(project, _promote_by_hand, [(number, barrier) for number in others[:2]]))
        found["same"] += _replaced_the_same(said)
        found["whole"] += PASSED in project.client.get_model_version_by_alias(BY_HAND, "champion").tags
    same = str(found["same"])
    return ["plain MLflow", str(trials), same, same, "0", str(found["whole"]), "there is no history"]


def _two_of_ours(project: Project, trials: int) -> list[str]:
    found: Counter[str] = Counter()
    for _ in range(trials):
        before = len(champion_history.history(project.client))
        with contextlib.ExitStack() as held:  # until both have come as far as the lock of their folder
            for folder in FOLDERS:
                held.enter_context(locks.locked(project.top / folder / champion_history.LOCK))
            both = _both(project, _promote, [(number,) for number in project.others()[:2]])
            _wait(lambda both=both: all("waiting for" in text or status is not None for status, text in _now(project, both)))
        said = _said(project, both)
        found["whole"] += project.is_whole()
        won = sum(status == 0 for status, _ in said)
        found["same"] += won < len(said) or _replaced_the_same(said)
        found["both"] += _replaced_the_same(said)
        found["told"] += any(status and "another change came first" in text for status, text in said)
        with champion_history.changing(project.client) as entries:  # the next command
            found["agree"] += project.agrees() and len(entries) == before + won
    counted = [str(found[each]) for each in ("same", "both", "told", "whole", "agree")]
    return ["sentiflow models promote", str(trials), *counted]


def _replaced_the_same(said: list[tuple[int | None, str]]) -> bool:
    told = [re.search(r"instead of version (\d+)", text) for status, text in said if status == 0]
    return len(told) == 2 and len({each and each[1] for each in told}) == 1


def _script_killed(project: Project, step: str, trials: int, source: str) -> list[str]:
    found: Counter[str] = Counter()
    for _ in range(trials):
        before = _by_hand(project)
        found["kills"] += _killed_after(project, step, 0.0, _register_by_hand, source)
        found["whole"] += PASSED in project.client.get_model_version_by_alias(BY_HAND, "champion").tags
        for number in _by_hand(project, f"tags.{PASSED} != 'passed'") - before:
            project.client.set_registered_model_alias(BY_HAND, "champion", number)  # MLflow has no objection
            found["half"] += 1
        _register_by_hand(source)
        found["twice"] += len(_by_hand(project) - before) > 1
    counted = [str(found[each]) for each in ("kills", "whole", "half", "twice")]
    return ["a script that registers, tags, sets the alias", step, *counted, "there is no history"]


def _by_hand(project: Project, where: str = "") -> set[str]:
    found = {str(version.version): version for version in project.client.search_model_versions(f"name = '{BY_HAND}'")}
    return {number for number, version in found.items() if not where or PASSED not in version.tags}


def _publication_killed(project: Project, step: str, trials: int, drawn: random.Random) -> list[str]:
    found: Counter[str] = Counter()
    [first, *_] = project.publications.values()
    for number in range(trials):
        anew = dataclasses.replace(first, key=f"{step}{number}".ljust(64, "0"))
        found["kills"] += _killed_after(project, step, drawn.uniform(0, 1.0 if step == "run" else 0.01), _publish, anew)
        found["whole"] += project.is_whole()
        versions = model_versions.versions(project.client, f"tags.`{KEY_TAG}` = '{anew.key}'")
        complete = [COMPLETE_TAG in project.client.get_run(store.run_of(each)).data.tags for each in versions]
        can = [project.is_promotable(str(each.version)) for each in versions]
        found["half"] += any(yes and not is_whole for yes, is_whole in zip(can, complete, strict=True))
        _publish(anew)
        found["twice"] += len(model_versions.versions(project.client, f"tags.`{KEY_TAG}` = '{anew.key}'")) > 1
        found["agree"] += project.agrees()
    counted = [str(found[each]) for each in ("kills", "whole", "half", "twice", "agree")]
    return ["register, the stage", step, *counted]


def _promotion_killed(project: Project, step: str, trials: int, drawn: random.Random) -> list[str]:
    found: Counter[str] = Counter()
    for _ in range(trials):
        before = len(champion_history.history(project.client))
        [number, *_] = project.others()
        found["kills"] += _killed_after(project, step, drawn.uniform(0, 0.05), _promote, number)
        found["whole"] += project.is_whole()
        with contextlib.suppress(InputError):  # that it is champion already
            project.promote(number)
        found["twice"] += len(champion_history.history(project.client)) > before + 1
        found["agree"] += project.agrees() and project.aliased(model_versions.CHAMPION) == number
    counted = [str(found[each]) for each in ("kills", "whole", "twice", "agree")]
    return ["sentiflow models promote", step, *counted[:2], "-", *counted[2:]]


def _killed_after(project: Project, step: str, delay: float, target: Callable[..., None], argument: Any) -> bool:
    """Whether the process was killed, and had not ended before; so many seconds after the store showed the step."""
    before = project.state(step)
    process = _begun(project, FOLDERS[0], target, (argument,))
    _wait(lambda: project.state(step) != before or not process.is_alive())
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _both(project: Project, target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> list[ForkServerProcess]:
    """Two that were begun at once, in a folder each."""
    return [_begun(project, folder, target, each) for folder, each in zip(FOLDERS, arguments, strict=True)]


def _said(project: Project, both: list[ForkServerProcess]) -> list[tuple[int | None, str]]:
    """Exit status and output of two when they have ended."""
    for process in both:
        process.join(SLOWEST)
    return _now(project, both)


def _now(project: Project, both: list[ForkServerProcess]) -> list[tuple[int | None, str]]:
    """The same as far as they have come."""
    files = [project.top / folder / "said" for folder in FOLDERS]
    texts = [file.read_text(encoding="utf-8") if file.exists() else "" for file in files]
    return [(process.exitcode, text) for process, text in zip(both, texts, strict=True)]


def _begun(project: Project, folder: str, target: Callable[..., None], arguments: tuple[Any, ...]) -> ForkServerProcess:
    (project.top / folder / "said").unlink(missing_ok=True)
    process = PROCESSES.Process(target=_in_folder, args=(project.top / folder, target, arguments), daemon=True)
    process.start()
    return process


def _in_folder(folder: Path, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.chdir(folder)
    with (folder / "said").open("wb") as said:
        for descriptor in (1, 2):
            os.dup2(said.fileno(), descriptor)
    target(*arguments)


def _promote(number: str) -> None:
    with entry_point.handled():
        champion.promote(number, force=True, reason="for the figure")


def _publish(publication: publishing.Publication) -> None:
    client = store.connect()
    publishing.publish(client, publication, parent=publishing.retraining(client, "r" * 64))


def _promote_by_hand(number: str, barrier: Any) -> None:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    client = MlflowClient(uri, uri)
    client.get_registered_model(BY_HAND)
    barrier.wait()
    before = client.get_model_version_by_alias(BY_HAND, "champion")
    client.set_registered_model_alias(BY_HAND, "champion", number)
    print(f"champion is version {number} instead of version {before.version}")


def _register_by_hand(source: str) -> None:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri, uri)
    version = mlflow.register_model(source, BY_HAND).version
    client.set_model_version_tag(BY_HAND, version, PASSED, "passed")
    client.set_registered_model_alias(BY_HAND, "champion", version)


# --- 12: serving ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Server:
    """A server of the champion with all its processes."""

    project: Project
    words: list[str]
    reports: bool  # whether /version tells which version answers

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.project.top / f"{self.words[0]}.log"

    def start(self) -> float:
        """Seconds until it answered a text."""
        started = time.monotonic()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.words, "--port", str(self.port)],
                cwd=self.project.top / FOLDERS[0],
                env=os.environ | {"PATH": path, "PYTHONPATH": str(TOP / "src")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _wait(self._answers)
        return time.monotonic() - started

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"{' '.join(self.words)} ended:\n{self.log.read_text(encoding='utf-8')}")
        with contextlib.suppress(requests.ConnectionError):
            return self.ask(["a film"]).status_code == 200
        return False

    def ask(self, texts: list[str]) -> requests.Response:
        return requests.post(f"{self.url}/invocations", json={"inputs": texts}, timeout=SLOWEST)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def memory(self) -> int:
        """Bytes that its processes hold."""
        held = 0
        with contextlib.suppress(psutil.Error):
            for process in [top := psutil.Process(self.process.pid), *top.children(recursive=True)]:
                held += process.memory_info().rss
        return held

    @contextlib.contextmanager
    def growth(self) -> Iterator[list[int]]:
        """Gives a list whose only number is, after the block, by how much its memory grew at most."""
        before, most, ended = self.memory(), [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.02):
                most[0] = max(most[0], self.memory() - before)
                if most[0] > TOO_MUCH:
                    self.kill()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield most
        finally:
            ended.set()
            watcher.join()


def figure_12(project: Project) -> None:
    plain = ["mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1", "-m", "models:/sentiflow@champion"]
    found = [_probed(Server(project, plain, False)), _probed(Server(project, ["sentiflow", "serve"], True))]
    print(f"Figure 12: serving, with `body_seconds` {BODY_SECONDS:g}")
    rows = [[probe, found[0][probe], found[1][probe]] for probe in found[0]]
    print("\n".join(markdown.markdown(["probe", "mlflow models serve", "sentiflow serve"], rows)), flush=True)


def _probed(server: Server) -> dict[str, str]:
    try:
        server.start()
        told = _promoted_meanwhile(server) | _trickled(server)
        told |= {what: _answer(server, kind, body) for what, (kind, body) in BODIES.items()}
        told["a length of 100 MB, and 30 bytes of it"] = _falsely_declared(server)
        told["100 MB in one piece"] = _huge(server, b'{"inputs": ["' + b"x" * HUGE + b'"]}')
        server.kill()
        told["after `kill -9` it answers again after"] = f"{server.start():.0f} s"
        part = b"x" * 1_000_000
        told["100 MB in chunks"] = _huge(server, itertools.chain([b'{"inputs": ["'], itertools.repeat(part, 100), [b'"]}']))
        told["stack traces in its log"] = str(server.log.read_text(encoding="utf-8", errors="replace").count("Traceback"))
        return told
    finally:
        server.kill()


def _promoted_meanwhile(server: Server) -> dict[str, str]:
    project, texts = server.project, [f"a {word} film" for word in ("great", "dull", "moving", "boring", "funny")]
    before, [after, *_] = project.aliased(model_versions.CHAMPION), project.others()
    expected = {number: _expected(project, number, texts) for number in (before, after)}
    switched, enough = threading.Event(), threading.Event()
    numbers = itertools.count(1)

    def work(_: int) -> list[tuple[bool, str]]:
        """Whether the switch had been reported when a request was sent, and who answered it."""
        told = []
        while not enough.is_set():
            since = switched.is_set()
            told.append((since, _who(server, texts, expected)))
            if next(numbers) >= REQUESTS and since:
                enough.set()
        return told

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(work, number) for number in range(CLIENTS)]
        try:
            time.sleep(0.3)
            project.promote(after)
            if server.reports:
                _wait(lambda: requests.get(f"{server.url}/version", timeout=SLOWEST).json()["version"] == after)
            else:
                time.sleep(UNREPORTED)
            switched.set()
            found = [each for client in clients for each in client.result()]
        finally:
            enough.set()
    since = [who for switch, who in found if switch]
    by_old = since.count(before)
    when = "/version told the new one" if server.reports else f"{UNREPORTED:g} s had gone"
    return {
        "requests while another version is promoted": f"{len(found)}",
        "errors, or answers of neither version": str(sum(who not in expected for _, who in found)),
        "answers of the old version after the switch": f"{by_old} of {len(since)}, after {when}",
    }


def _expected(project: Project, number: str, texts: list[str]) -> list[float]:
    opened = model_versions.opened(project.client, model_versions.version(project.client, number))
    return [float(each) for each in opened.model.predict(texts)["p_positive"]]


def _who(server: Server, texts: list[str], expected: dict[str, list[float]]) -> str:
    """The version whose answers these are, or what went wrong."""
    answer = server.ask(texts)
    if answer.status_code != 200:
        return f"status {answer.status_code}"
    given = [each["p_positive"] for each in answer.json()["predictions"]]
    near = [n for n, known in expected.items() if all(abs(a - b) < 1e-6 for a, b in zip(given, known, strict=True))]
    return near[0] if near else "neither"


def _trickled(server: Server) -> dict[str, str]:
    head = b"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
    started = time.monotonic()
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    statuses: list[str] = []
    for client in clients:
        client.sendall(head)
    open_ones, meanwhile, cut = {*clients}, 0.0, 0.0
    while open_ones and time.monotonic() - started < 5 * BODY_SECONDS:
        for client in [*open_ones]:
            with contextlib.suppress(OSError):
                client.sendall(b" ")
        if not meanwhile:
            asked = time.monotonic()
            server.ask(["a film"])
            meanwhile = time.monotonic() - asked
        for client in select.select([*open_ones], [], [], 0.2)[0]:
            with contextlib.suppress(OSError):
                statuses += [client.recv(9999).decode("latin-1")[9:12]]
            open_ones.discard(client)
            cut = time.monotonic() - started
    for client in clients:
        client.close()
    how = f"with {'/'.join(sorted({*statuses}))} after {cut:.1f} s" if statuses else f"after {5 * BODY_SECONDS:g} s"
    return {
        "20 clients that send a byte every 0.2 s": f"{20 - len(open_ones)} cut off {how}",
        "another request meanwhile": f"answered in {meanwhile:.2f} s",
    }


JSON = "application/json"
BODIES: dict[str, tuple[str | None, bytes]] = {
    "no body": (JSON, b""),
    "not JSON": (JSON, b"{"),
    "numbers for texts": (JSON, b'{"inputs": [1, 2]}'),
    "null for a text": (JSON, b'{"inputs": [null]}'),
    "no text": (JSON, b'{"inputs": []}'),
    "not UTF-8": (JSON, b'{"inputs": ["\xff"]}'),
    "JSON nested 100,000 deep": (JSON, b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a text of 1 MB": (JSON, json.dumps({"inputs": ["dull " * 200_000]}).encode()),
    "10,000 texts": (JSON, json.dumps({"inputs": ["dull"] * 10_000}).encode()),
    "another content type": ("text/plain", b"a film"),
    "no content type": (None, b'{"inputs": ["a film"]}'),
}


def _answer(server: Server, kind: str | None, body: Any) -> str:
    """Status and kind of an answer."""
    headers = {} if kind is None else {"content-type": kind}
    try:
        answer = requests.post(f"{server.url}/invocations", data=body, headers=headers, timeout=ANSWER)
    except requests.Timeout:
        return f"no answer in {ANSWER:.0f} s"
    except requests.ConnectionError:
        return "cut off"
    return f"{answer.status_code}, {_told(answer)}"


def _told(answer: requests.Response) -> str:
    if answer.status_code == 200:
        return "an answer"
    if "Traceback" in answer.text:
        return "a stack trace"
    return "no reason" if answer.text.strip() in ("", "Internal Server Error") else "a reason"


def _falsely_declared(server: Server) -> str:
    head = f"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {JSON}\r\ncontent-length: {HUGE}\r\n\r\n"
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5 * BODY_SECONDS) as client:
        client.sendall(head.encode() + b'{"inputs": ["aaaaaaaaaaaaaaaaa')
        try:
            first = client.recv(9999).decode("latin-1")
        except TimeoutError:
            return f"no answer in {5 * BODY_SECONDS:g} s"
    return f"{first[9:12] or 'cut off'} after {time.monotonic() - started:.1f} s"


def _huge(server: Server, body: Any) -> str:
    with server.growth() as most:
        said = _answer(server, JSON, body)
    return f"{said}; memory grew by {most[0] / 1e6:,.0f} MB"


# --- common -----------------------------------------------------------------------------------------------------------


def _wait(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + SLOWEST
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"nothing came of it in {SLOWEST:.0f} s")
        time.sleep(0.002)


if __name__ == "__main__":
    typer.run(main)
