"""Effect of concurrent promotions, kills and bad requests on registry and server, compared with plain MLflow.

Figure 10 uses processes on one SQLite store. They are forked from a process that has done all imports, so that two start within
milliseconds and a kill hits the work rather than the start. Figure 12 uses servers of two small versions.

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

# imported before MLflow
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
TIMEOUT = 300.0  # seconds, for a busy machine
FOLDERS = ("here", "there")  # of the project, each with its own lock, as on two machines
BY_HAND = "reviews"  # the registered model used with plain MLflow
PASSED = "validation"  # the tag set by the plain script
STEPS = {  # queries whose result changes with the step
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
UNREPORTED = 2.0  # seconds allowed for a switch that the server does not report
HUGE = 100_000_000
RESPONSE = 30.0  # seconds to wait for a response
MAX_MEMORY = 6e9  # bytes; a server that uses more is killed


@dataclasses.dataclass
class Project:
    """Folders of a project on one store; the working directory is the first one."""

    top: Path
    client: MlflowClient
    publications: Mapping[str, publishing.Publication]  # by number of their version

    def aliased(self, alias: str) -> str:
        found = model_versions.with_alias(self.client, alias)
        return "" if found is None else str(found.version)

    def others(self) -> list[str]:
        """Numbers of the versions that are not champion."""
        return [number for number in self.publications if number != self.aliased(model_versions.CHAMPION)]

    def is_complete(self) -> bool:
        """Whether `champion` names a completely published version."""
        return self.is_promotable(self.aliased(model_versions.CHAMPION))

    def is_promotable(self, number: str) -> bool:
        try:
            model_versions.version(self.client, number)
        except InputError:
            return False
        return True

    def agrees(self) -> bool:
        """Whether aliases and the file in git agree with the history."""
        entries = champion_history.history(self.client)
        named = [self.aliased(alias) for alias in (model_versions.PREVIOUS, model_versions.CHAMPION)]
        kept = champion_history.JOURNAL.read_text(encoding="utf-8").splitlines()[1:]
        return named == champion_history.line_of_succession(entries)[-2:] and len(kept) == len(entries)

    def promote(self, number: str) -> None:
        with champion_history.changing(self.client) as entries:
            champion_history.change(
                self.client, entries, model_versions.version(self.client, number), champion_history.FORCED, "benchmark"
            )

    def state(self, step: str) -> Any:
        with contextlib.closing(sqlite3.connect(f"file:{self.top}/mlflow.db?mode=ro", uri=True)) as database:
            return database.execute(STEPS[step]).fetchone()


def main(
    figures: Annotated[list[int] | None, typer.Argument(help="10 or 12; default: both")] = None,
    trials: Annotated[int, typer.Option(min=1, help="pairs of promotions, and kills after each step, in figure 10")] = 2,
    seed: Annotated[int, typer.Option(help="random seed of the times of the kills")] = 7,
) -> None:
    wanted = figures or [10, 12]
    if unknown := {*wanted} - {10, 12}:
        raise typer.BadParameter(f"figure must be 10 or 12, got {min(unknown)}")
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
    import publications  # imported here because forked processes do not need it

    for name in FOLDERS:
        (top / name).mkdir()
        text = isolated_run.with_changes((TOP / "params.yaml").read_text(encoding="utf-8"), CHANGES)
        (top / name / "params.yaml").write_text(text, encoding="utf-8")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{top}/mlflow.db"  # for every child process
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


# --- 10: concurrent promotions and kills ------------------------------------------------------------------------------


def figure_10(project: Project, trials: int, drawn: random.Random) -> None:
    sources = [version.source for version in model_versions.versions(project.client)]
    for source in sources:
        _register_by_hand(source)

    print("Figure 10: two concurrent promotions of different versions")
    columns = [
        "promoted by",
        "trials",
        "both compared with the same champion",
        "both reported replacing it",
        "the later one was refused",
        "champion is complete",
        "history, champion and previous agree",
    ]
    rows = [_two_by_hand(project, trials), _two_of_ours(project, trials)]
    print("\n".join(markdown.markdown(columns, rows)), flush=True)

    print("\n`kill -9` after a step, then the same again")
    columns = [
        "killed",
        "after its",
        "kills",
        "champion is complete",
        "incomplete, and can be promoted",
        "duplicates in the end",
        "history, champion and previous agree",
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
        results = _finished(project, _both(project, _promote_by_hand, [(number, barrier) for number in others[:2]]))
        found["same"] += _replaced_the_same(results)
        found["complete"] += PASSED in project.client.get_model_version_by_alias(BY_HAND, "champion").tags
    same = str(found["same"])
    return ["plain MLflow", str(trials), same, same, "0", str(found["complete"]), "no history"]


def _two_of_ours(project: Project, trials: int) -> list[str]:
    found: Counter[str] = Counter()
    for _ in range(trials):
        before = len(champion_history.history(project.client))
        with contextlib.ExitStack() as held:  # until both wait for the lock of their folder
            for folder in FOLDERS:
                held.enter_context(locks.locked(project.top / folder / champion_history.LOCK))
            both = _both(project, _promote, [(number,) for number in project.others()[:2]])
            _wait(lambda both=both: all("waiting for" in text or status is not None for status, text in _now(project, both)))
        results = _finished(project, both)
        found["complete"] += project.is_complete()
        won = sum(status == 0 for status, _ in results)
        found["same"] += won < len(results) or _replaced_the_same(results)
        found["both"] += _replaced_the_same(results)
        found["refused"] += any(status and "another change came first" in text for status, text in results)
        with champion_history.changing(project.client) as entries:  # the next command
            found["agree"] += project.agrees() and len(entries) == before + won
    counted = [str(found[each]) for each in ("same", "both", "refused", "complete", "agree")]
    return ["sentiflow models promote", str(trials), *counted]


def _replaced_the_same(results: list[tuple[int | None, str]]) -> bool:
    replaced = [re.search(r"instead of version (\d+)", text) for status, text in results if status == 0]
    return len(replaced) == 2 and len({each and each[1] for each in replaced}) == 1


def _script_killed(project: Project, step: str, trials: int, source: str) -> list[str]:
    found: Counter[str] = Counter()
    for _ in range(trials):
        before = _by_hand(project)
        found["kills"] += _killed_after(project, step, 0.0, _register_by_hand, source)
        found["complete"] += PASSED in project.client.get_model_version_by_alias(BY_HAND, "champion").tags
        for number in _by_hand(project, f"tags.{PASSED} != 'passed'") - before:
            project.client.set_registered_model_alias(BY_HAND, "champion", number)  # MLflow allows it
            found["half"] += 1
        _register_by_hand(source)
        found["twice"] += len(_by_hand(project) - before) > 1
    counted = [str(found[each]) for each in ("kills", "complete", "half", "twice")]
    return ["a script that registers, tags, sets the alias", step, *counted, "no history"]


def _by_hand(project: Project, where: str = "") -> set[str]:
    found = {str(version.version): version for version in project.client.search_model_versions(f"name = '{BY_HAND}'")}
    return {number for number, version in found.items() if not where or PASSED not in version.tags}


def _publication_killed(project: Project, step: str, trials: int, drawn: random.Random) -> list[str]:
    found: Counter[str] = Counter()
    [first, *_] = project.publications.values()
    for number in range(trials):
        publication = dataclasses.replace(first, key=f"{step}{number}".ljust(64, "0"))
        found["kills"] += _killed_after(project, step, drawn.uniform(0, 1.0 if step == "run" else 0.01), _publish, publication)
        found["complete"] += project.is_complete()
        versions = model_versions.versions(project.client, f"tags.`{KEY_TAG}` = '{publication.key}'")
        complete = [COMPLETE_TAG in project.client.get_run(store.run_of(each)).data.tags for each in versions]
        can = [project.is_promotable(str(each.version)) for each in versions]
        found["half"] += any(promotable and not whole for promotable, whole in zip(can, complete, strict=True))
        _publish(publication)
        found["twice"] += len(model_versions.versions(project.client, f"tags.`{KEY_TAG}` = '{publication.key}'")) > 1
        found["agree"] += project.agrees()
    counted = [str(found[each]) for each in ("kills", "complete", "half", "twice", "agree")]
    return ["register, the stage", step, *counted]


def _promotion_killed(project: Project, step: str, trials: int, drawn: random.Random) -> list[str]:
    found: Counter[str] = Counter()
    for _ in range(trials):
        before = len(champion_history.history(project.client))
        [number, *_] = project.others()
        found["kills"] += _killed_after(project, step, drawn.uniform(0, 0.05), _promote, number)
        found["complete"] += project.is_complete()
        with contextlib.suppress(InputError):  # it is champion already
            project.promote(number)
        found["twice"] += len(champion_history.history(project.client)) > before + 1
        found["agree"] += project.agrees() and project.aliased(model_versions.CHAMPION) == number
    counted = [str(found[each]) for each in ("kills", "complete", "twice", "agree")]
    return ["sentiflow models promote", step, *counted[:2], "-", *counted[2:]]


def _killed_after(project: Project, step: str, delay: float, target: Callable[..., None], argument: Any) -> bool:
    """Kills a process `delay` seconds after a step is visible in the store; False if it had already exited."""
    before = project.state(step)
    process = _begun(project, FOLDERS[0], target, (argument,))
    _wait(lambda: project.state(step) != before or not process.is_alive())
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _both(project: Project, target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> list[ForkServerProcess]:
    """Two processes started together, each in its own folder."""
    return [_begun(project, folder, target, each) for folder, each in zip(FOLDERS, arguments, strict=True)]


def _finished(project: Project, both: list[ForkServerProcess]) -> list[tuple[int | None, str]]:
    """Exit status and output of both processes after they exit."""
    for process in both:
        process.join(TIMEOUT)
    return _now(project, both)


def _now(project: Project, both: list[ForkServerProcess]) -> list[tuple[int | None, str]]:
    """Exit status, None while running, and output so far."""
    files = [project.top / folder / "output" for folder in FOLDERS]
    texts = [file.read_text(encoding="utf-8") if file.exists() else "" for file in files]
    return [(process.exitcode, text) for process, text in zip(both, texts, strict=True)]


def _begun(project: Project, folder: str, target: Callable[..., None], arguments: tuple[Any, ...]) -> ForkServerProcess:
    (project.top / folder / "output").unlink(missing_ok=True)
    process = PROCESSES.Process(target=_in_folder, args=(project.top / folder, target, arguments), daemon=True)
    process.start()
    return process


def _in_folder(folder: Path, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.chdir(folder)
    with (folder / "output").open("wb") as results:
        for descriptor in (1, 2):
            os.dup2(results.fileno(), descriptor)
    target(*arguments)


def _promote(number: str) -> None:
    with entry_point.handled():
        champion.promote(number, force=True, reason="benchmark")


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
    """A server of the champion, and all its processes."""

    project: Project
    words: list[str]
    reports: bool  # whether it has /version

    def __post_init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.project.top / f"{self.words[0]}.log"

    def start(self) -> float:
        """Seconds until the first prediction."""
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
        _wait(self._responds)
        return time.monotonic() - started

    def _responds(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"{' '.join(self.words)} exited:\n{self.log.read_text(encoding='utf-8')}")
        with contextlib.suppress(requests.ConnectionError):
            return self.ask(["a film"]).status_code == 200
        return False

    def ask(self, texts: list[str]) -> requests.Response:
        return requests.post(f"{self.url}/invocations", json={"inputs": texts}, timeout=TIMEOUT)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def memory(self) -> int:
        """Resident bytes of all its processes."""
        held = 0
        with contextlib.suppress(psutil.Error):
            for process in [top := psutil.Process(self.process.pid), *top.children(recursive=True)]:
                held += process.memory_info().rss
        return held

    @contextlib.contextmanager
    def growth(self) -> Iterator[list[int]]:
        """A list whose only element is, after the block, the peak growth of memory in bytes."""
        before, most, ended = self.memory(), [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.02):
                most[0] = max(most[0], self.memory() - before)
                if most[0] > MAX_MEMORY:
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
        results = _promoted_meanwhile(server) | _trickled(server)
        results |= {what: _answer(server, kind, body) for what, (kind, body) in BODIES.items()}
        results["content length 100 MB, 30 bytes sent"] = _falsely_declared(server)
        results["a body of 100 MB"] = _huge(server, b'{"inputs": ["' + b"x" * HUGE + b'"]}')
        server.kill()
        results["restart after `kill -9`"] = f"{server.start():.0f} s"
        part = b"x" * 1_000_000
        results["100 MB, chunked"] = _huge(server, itertools.chain([b'{"inputs": ["'], itertools.repeat(part, 100), [b'"]}']))
        results["stack traces in its log"] = str(server.log.read_text(encoding="utf-8", errors="replace").count("Traceback"))
        return results
    finally:
        server.kill()


def _promoted_meanwhile(server: Server) -> dict[str, str]:
    project, texts = server.project, [f"a {word} film" for word in ("great", "dull", "moving", "boring", "funny")]
    before, [after, *_] = project.aliased(model_versions.CHAMPION), project.others()
    expected = {number: _expected(project, number, texts) for number in (before, after)}
    switched, enough = threading.Event(), threading.Event()
    numbers = itertools.count(1)

    def work(_: int) -> list[tuple[bool, str]]:
        """Per request: whether the switch had been reported before it, and which version responded."""
        responses = []
        while not enough.is_set():
            since = switched.is_set()
            responses.append((since, _who(server, texts, expected)))
            if next(numbers) >= REQUESTS and since:
                enough.set()
        return responses

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(work, number) for number in range(CLIENTS)]
        try:
            time.sleep(0.3)
            project.promote(after)
            if server.reports:
                _wait(lambda: requests.get(f"{server.url}/version", timeout=TIMEOUT).json()["version"] == after)
            else:
                time.sleep(UNREPORTED)
            switched.set()
            found = [each for client in clients for each in client.result()]
        finally:
            enough.set()
    since = [who for switch, who in found if switch]
    by_old = since.count(before)
    when = "after /version showed the new one" if server.reports else f"{UNREPORTED:g} s later"
    return {
        "requests while another version is promoted": f"{len(found)}",
        "errors, or responses of neither version": str(sum(who not in expected for _, who in found)),
        "responses of the old version after the switch": f"{by_old} of {len(since)}, {when}",
    }


def _expected(project: Project, number: str, texts: list[str]) -> list[float]:
    opened = model_versions.opened(project.client, model_versions.version(project.client, number))
    return [float(each) for each in opened.model.predict(texts)["p_positive"]]


def _who(server: Server, texts: list[str], expected: dict[str, list[float]]) -> str:
    """The version that made the predictions, or the error."""
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
        "20 clients sending a byte every 0.2 s": f"{20 - len(open_ones)} cut off {how}",
        "a concurrent request": f"answered in {meanwhile:.2f} s",
    }


JSON = "application/json"
BODIES: dict[str, tuple[str | None, bytes]] = {
    "no body": (JSON, b""),
    "not JSON": (JSON, b"{"),
    "numbers instead of texts": (JSON, b'{"inputs": [1, 2]}'),
    "null instead of a text": (JSON, b'{"inputs": [null]}'),
    "empty list": (JSON, b'{"inputs": []}'),
    "not UTF-8": (JSON, b'{"inputs": ["\xff"]}'),
    "JSON nested 100,000 deep": (JSON, b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a text of 1 MB": (JSON, json.dumps({"inputs": ["dull " * 200_000]}).encode()),
    "10,000 texts": (JSON, json.dumps({"inputs": ["dull"] * 10_000}).encode()),
    "another content type": ("text/plain", b"a film"),
    "no content type": (None, b'{"inputs": ["a film"]}'),
}


def _answer(server: Server, kind: str | None, body: Any) -> str:
    """Status of a response, and whether it has a reason."""
    headers = {} if kind is None else {"content-type": kind}
    try:
        answer = requests.post(f"{server.url}/invocations", data=body, headers=headers, timeout=RESPONSE)
    except requests.Timeout:
        return f"no response in {RESPONSE:.0f} s"
    except requests.ConnectionError:
        return "cut off"
    return f"{answer.status_code}{_reason(answer)}"


def _reason(answer: requests.Response) -> str:
    if answer.status_code == 200:
        return ""
    if "Traceback" in answer.text:
        return ", with a stack trace"
    return ", without reason" if answer.text.strip() in ("", "Internal Server Error") else ", with reason"


def _falsely_declared(server: Server) -> str:
    head = f"POST /invocations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {JSON}\r\ncontent-length: {HUGE}\r\n\r\n"
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5 * BODY_SECONDS) as client:
        client.sendall(head.encode() + b'{"inputs": ["aaaaaaaaaaaaaaaaa')
        try:
            first = client.recv(9999).decode("latin-1")
        except TimeoutError:
            return f"no response in {5 * BODY_SECONDS:g} s"
    return f"{first[9:12] or 'cut off'} after {time.monotonic() - started:.1f} s"


def _huge(server: Server, body: Any) -> str:
    with server.growth() as most:
        response = _answer(server, JSON, body)
    return f"{response}; memory grew by {most[0] / 1e6:,.0f} MB"


# --- common -----------------------------------------------------------------------------------------------------------


def _wait(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"condition not met in {TIMEOUT:.0f} s")
        time.sleep(0.002)


if __name__ == "__main__":
    typer.run(main)
