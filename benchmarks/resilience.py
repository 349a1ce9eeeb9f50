"""State after killed runs, and whether the next run recovers, compared with plain DVC.

Figures 1 to 3 use a project of three stages of a second each, run by `sentiflow repro`, by `dvc repro`, and by `dvc repro` with a
script that appends line by line to its output. Figure 9 uses a retraining on a small sample under `sentiflow schedule`.

python benchmarks/resilience.py [FIGURE ...] [--trials N]
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from sentiflow.system import markdown

TOP = Path(__file__).parents[1]
STAGES = ("first", "second", "third")
LINES = 12  # of an output
GAP = "GAP"  # environment variable: seconds between two of them
SPAN = 0.6  # seconds that a stage takes, unless it must outlive the next start of DVC
DVC_LIKE = [sys.executable, "-c", "import time; time.sleep(600)", "dvc"]  # a process that looks like DVC
TIMEOUT = 600.0  # seconds, for a busy machine

NAIVE = """\
import os, sys, time
text, target = open(sys.argv[1]).read()[:4], sys.argv[2]
for number in range({lines}):
    with open(target, "a") as file:
        file.write(f"{{text}} {{number}}\\n")
    time.sleep(float(os.environ["{gap}"]))
"""
OURS = """\
import os, time
from pathlib import Path
from sentiflow.system import stage
def main(source: Path, target: Path) -> None:
    with stage.writing(target) as [partial], partial.open("a") as file:
        for number in range({lines}):
            file.write(f"{{source.read_text()[:4]}} {{number}}\\n")
            file.flush()
            time.sleep(float(os.environ["{gap}"]))
if __name__ == "__main__":
    stage.run(main)
"""
WAYS = ("dvc repro, a script that appends", "dvc repro, our stages", "sentiflow repro")


class SmallProject:
    """A project of three stages in a row, for one trial."""

    def __init__(self, folder: Path, way: str, span: float = SPAN) -> None:
        self.folder, self.way, self.span = folder, way, span

    @classmethod
    def made(cls, folder: Path, way: str) -> "SmallProject":
        folder.mkdir(parents=True)
        script = NAIVE if way == WAYS[0] else OURS
        (folder / "write.py").write_text(script.format(lines=LINES, gap=GAP), encoding="utf-8")
        (folder / "source.txt").write_text("good\n", encoding="utf-8")
        shutil.copyfile(TOP / "params.yaml", folder / "params.yaml")
        sources = ("source.txt", *(f"{name}.txt" for name in STAGES))
        lines = [
            f"  {name}: {{cmd: python write.py {source} {name}.txt, deps: [{source}, write.py], outs: [{name}.txt]}}\n"
            for name, source in zip(STAGES, sources, strict=False)
        ]
        (folder / "dvc.yaml").write_text("stages:\n" + "".join(lines), encoding="utf-8")
        project = cls(folder, way)
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
            project._call(command)
        (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n", encoding="utf-8")
        return project

    def commit(self) -> None:
        self._call(["git", "add", "-A"])
        self._call(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "finished"])

    def copy(self, folder: Path, span: float) -> "SmallProject":
        shutil.copytree(self.folder, folder, symlinks=True)
        return SmallProject(folder, self.way, span)

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "sentiflow", "repro"] if self.way == WAYS[2] else [sys.executable, "-m", "dvc", "repro"]

    def _environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(TOP / "src"), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        own |= {GAP: str(self.span / LINES), "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(self.folder.parent / "site")}
        return os.environ | own

    def _call(self, command: list[str]) -> str:
        ended = subprocess.run(
            command, cwd=self.folder, env=self._environment(), capture_output=True, text=True, check=True, timeout=TIMEOUT
        )
        return ended.stdout

    def begin(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def again(self, timeout: float = TIMEOUT) -> tuple[int | None, str]:
        """Exit status and output of another run; None if it had to be killed after `timeout` seconds."""
        run = self.begin()
        try:
            output, _ = run.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill(self.processes())
            return None, run.communicate()[0]
        return run.returncode, output

    def processes(self) -> list[psutil.Process]:
        """Every process whose working directory is the project."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def stage(self, name: str) -> psutil.Process | None:
        return self._process(lambda words: words[1:2] == ["write.py"] and words[-1] == f"{name}.txt")

    def dvc(self) -> psutil.Process | None:
        """The process of the command dvc, or the worker that runs DVC for the pipeline."""
        return self._process(
            lambda words: (
                "sentiflow.pipeline.dvc_worker" in words
                or (any(Path(word).name == "dvc" for word in words[1:]) and "repro" in words)
            )
        )

    def _process(self, is_it: Callable[[list[str]], bool]) -> psutil.Process | None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if is_it(process.cmdline()):
                    return process
        return None

    def is_correct(self, text: str = "good") -> bool:
        wanted = "".join(f"{text} {number}\n" for number in range(LINES))
        outputs = [self.folder / f"{name}.txt" for name in STAGES]
        return all(output.exists() and output.read_text(encoding="utf-8") == wanted for output in outputs)

    def is_up_to_date(self) -> bool:
        """Whether DVC reports that everything is up to date; False if it fails."""
        asked = subprocess.run(
            [sys.executable, "-m", "dvc", "status", "--json"],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return asked.returncode == 0 and json.loads(asked.stdout) == {}

    def hashes(self) -> str:
        file = self.folder / "dvc.lock"
        return file.read_text(encoding="utf-8") if file.exists() else ""


def main(
    figures: Annotated[list[int] | None, typer.Argument(help="1, 2, 3 or 9; default: all")] = None,
    trials: Annotated[int, typer.Option(min=1, help="kills per stage and way in figures 1 and 2")] = 2,
    seed: Annotated[int, typer.Option(help="random seed of the times of the kills")] = 7,
) -> None:
    drawn = random.Random(seed)
    wanted = figures or [1, 2, 3, 9]
    with tempfile.TemporaryDirectory(prefix="resilience-") as name:
        top = Path(name).resolve()
        if {1, 2, 3} & {*wanted}:
            finished = {way: _finished(top / str(number), way) for number, way in enumerate(WAYS)}
        for figure in wanted:
            started = time.monotonic()
            if figure == 1:
                figure_1(finished, top, trials, drawn)
            elif figure == 2:
                figure_2(finished, top, trials, drawn)
            elif figure == 3:
                figure_3(finished, top)
            elif figure == 9:
                figure_9(top)
            else:
                raise typer.BadParameter(f"figure must be 1, 2, 3 or 9, got {figure}")
            print(f"\n({time.monotonic() - started:.0f} s)\n", flush=True)


def _finished(folder: Path, way: str) -> SmallProject:
    project = SmallProject.made(folder, way)
    status, output = project.again()
    if status != 0 or not project.is_correct():
        raise RuntimeError(f"an undisturbed run by {way} exited with status {status}:\n{output}")
    project.commit()
    return project


# --- 1: only DVC is killed, its stage survives ------------------------------------------------------------------------


def figure_1(finished: dict[str, SmallProject], top: Path, trials: int, drawn: random.Random) -> None:
    rows = []
    started = time.monotonic()
    finished[WAYS[0]].is_up_to_date()
    span = 3 * (time.monotonic() - started)  # the stage is still writing when the next run starts
    for way, project in finished.items():
        found: Counter[str] = Counter()
        for name in STAGES * trials:
            with _trial(project, top, span) as copy:
                _make_stale(copy, name)
                run = copy.begin()
                _wait(lambda copy=copy, name=name: copy.stage(name))
                time.sleep(drawn.uniform(0, span / 3))
                _kill([process] if (process := copy.dvc()) else [])
                orphan = copy.stage(name)
                # `sentiflow repro` exits after the orphan; DVC considers a process alive until its parent has waited for it
                run.wait()
                found["orphans"] += orphan is not None and orphan.is_running()
                status, _ = copy.again()
                _wait(lambda copy=copy: not copy.processes())
                run.communicate()
                found["right" if copy.is_correct() else "mixed"] += 1
                found["exit 0"] += status == 0
                found["wrong and up to date"] += not copy.is_correct() and copy.is_up_to_date()
        total = len(STAGES) * trials
        counted = (found[each] for each in ("orphans", "exit 0", "right", "mixed", "wrong and up to date"))
        rows.append([way, str(total), *map(str, counted)])
    columns = [
        "run by",
        "kills",
        "stage survived",
        "next run: exit 0",
        "outputs correct",
        "mixed",
        "mixed, and DVC says up to date",
    ]
    print("Figure 1: `kill -9` of DVC only, in every stage, with the next run immediately")
    print("\n".join(markdown.markdown(columns, rows)))


# --- 2: everything is killed ------------------------------------------------------------------------------------------


def figure_2(finished: dict[str, SmallProject], top: Path, trials: int, drawn: random.Random) -> None:
    rows = []
    for way, project in finished.items():
        found: Counter[str] = Counter()
        for _ in range(len(STAGES) * trials):
            with _trial(project, top) as copy:
                _make_stale(copy, STAGES[0])
                run = copy.begin()
                _wait(copy.dvc)
                time.sleep(drawn.uniform(0, 1.5 + len(STAGES) * SPAN))
                _kill(copy.processes())
                run.communicate()
                status, _ = copy.again()
                found["exit 0"] += status == 0
                found["same"] += copy.is_correct() and copy.hashes() == project.hashes()
        total = len(STAGES) * trials
        rows.append([way, str(total), f"{found['exit 0']} of {total}", f"{found['same']} of {total}"])
    print("Figure 2: `kill -9` of every process at a random moment, then a run without manual repair")
    print("\n".join(markdown.markdown(["run by", "kills", "next run: exit 0", "same hashes as undisturbed"], rows)))


# --- 3: DVC's own files after a killed run ----------------------------------------------------------------------------


def figure_3(finished: dict[str, SmallProject], top: Path) -> None:
    rows = []
    for what, damage in DAMAGES.items():
        row = [what]
        for way in (WAYS[0], WAYS[2]):
            with _trial(finished[way], top) as copy, contextlib.ExitStack() as others:
                _make_stale(copy, STAGES[0])
                others.enter_context(damage(copy))
                status, output = copy.again(timeout=20.0)
                row.append(_verdict(status, copy, output))
        rows.append(row)
    print("Figure 3: lock entries that a killed run may leave in .dvc/tmp/rwlock, and a stale stage")
    print("\n".join(markdown.markdown(["rwlock", WAYS[0], WAYS[2]], rows)))

    print("\ndvc.lock truncated at twelve places, and a changed source")
    rows = []
    for way in (WAYS[0], WAYS[2]):
        found: Counter[str] = Counter()
        for number in range(12):
            with _trial(finished[way], top) as copy:
                file = copy.folder / "dvc.lock"
                content = file.read_bytes()
                file.write_bytes(content[: len(content) * number // 12])
                (copy.folder / "source.txt").write_text("poor\n", encoding="utf-8")
                found["wrong and up to date"] += copy.is_up_to_date()  # nothing has run on the changed source
                status, _ = copy.again()
                found["exit 0"] += status == 0
                found["right"] += copy.is_correct("poor") and copy.is_up_to_date()
        counted = (found[each] for each in ("exit 0", "right", "wrong and up to date"))
        rows.append([way, "12", *map(str, counted)])
    print(
        "\n".join(
            markdown.markdown(
                ["run by", "truncations", "next run: exit 0", "correct and up to date", "up to date while wrong"], rows
            )
        )
    )


def _verdict(status: int | None, copy: SmallProject, output: str) -> str:
    if status is None:
        waits = "waiting for" in output or "lock" in output.lower()
        return "waits, and names it" if waits else "waits without a message"
    if status == 0 and copy.is_correct():
        return "repaired, ran" if "removed" in output else "ran"
    return "refuses until repaired by hand" if status else "ran, WRONG OUTPUT"


@contextlib.contextmanager
def _rwlock(copy: SmallProject, text: str) -> Iterator[None]:
    file = copy.folder / ".dvc/tmp/rwlock"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    yield


def _entry(copy: SmallProject, pid: int) -> str:
    return json.dumps({"write": {str(copy.folder / "first.txt"): {"pid": pid, "cmd": "dvc repro"}}, "read": {}})


@contextlib.contextmanager
def _dead(copy: SmallProject) -> Iterator[None]:
    dead = subprocess.Popen(["true"])
    dead.wait()
    with _rwlock(copy, _entry(copy, dead.pid)):
        yield


@contextlib.contextmanager
def _zombie(copy: SmallProject) -> Iterator[None]:
    with _started([sys.executable, "-c", "pass", "dvc"], copy) as other:
        _wait(lambda: psutil.Process(other.pid).status() == psutil.STATUS_ZOMBIE)
        with _rwlock(copy, _entry(copy, other.pid)):
            yield


@contextlib.contextmanager
def _foreign(copy: SmallProject) -> Iterator[None]:
    with _started(["sleep", "600"], copy) as other, _rwlock(copy, _entry(copy, other.pid)):
        yield


@contextlib.contextmanager
def _reused(copy: SmallProject) -> Iterator[None]:
    with (
        _started([sys.executable, "-c", "import time; time.sleep(120)", "dvc"], copy) as other,
        _rwlock(copy, _entry(copy, other.pid)),
    ):
        an_hour_ago = time.time() - 3600
        os.utime(copy.folder / ".dvc/tmp/rwlock", (an_hour_ago, an_hour_ago))  # the process is younger
        yield


@contextlib.contextmanager
def _running_dvc(copy: SmallProject) -> Iterator[None]:
    with _started(DVC_LIKE, copy) as other:
        time.sleep(0.2)
        with _rwlock(copy, _entry(copy, other.pid)):
            yield


@contextlib.contextmanager
def _started(command: list[str], copy: SmallProject) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, cwd=copy.folder.parent)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


DAMAGES: dict[str, Callable[[SmallProject], contextlib.AbstractContextManager[None]]] = {
    "empty": lambda copy: _rwlock(copy, ""),
    "half JSON": lambda copy: _rwlock(copy, _entry(copy, 1)[:40]),
    "a dead process": _dead,
    "a zombie process": _zombie,
    "a live process other than DVC": _foreign,
    "an id reused by another Python": _reused,
    "a running DVC": _running_dvc,
}


# --- 9: the flow, its worker or the server is killed -----------------------------------------------------------------


def figure_9(top: Path) -> None:
    sys.path.insert(0, str(TOP / "tests"))
    import faults  # imported here because it loads MLflow and Prefect

    rows = []
    project = faults.Project.made(top / "retraining", faults.POOR)
    with faults.Served(project, top / "prefect") as served:
        served.completed()
        project.change(faults.BETTER)
        served.completed(promote=False)
        project.keep(top / "waiting")
        for what in ("flow", "worker", "server"):
            for when in ("pending", "running", "promoting"):
                project.back_to(top / "waiting")
                project.make_stale("judge" if when == "promoting" else "clean")
                run_id = served.begin()
                _wait(lambda run_id=run_id, when=when: _is(served, project, run_id, when))
                started = time.monotonic()
                _kill([served.flow(run_id) if what == "flow" else getattr(served, what)()])
                if what != "flow":  # `sentiflow schedule` exits and is restarted, as by systemd
                    served.process.wait(TIMEOUT)
                    served.start()
                state = served.final(run_id)
                crashed = time.monotonic() - started
                following = _accepted(served)
                began = time.monotonic() - started
                outcome = served.ended(following)
                rows.append([what, when, f"{state.name}, {crashed:.1f} s", f"{began:.1f} s", outcome.name])
                print(" | ".join(rows[-1]), outcome.message, flush=True)
        runs = served.client.read_flow_runs(limit=200)
        healthy = Counter(run.state_name for run in runs)
    print("Figure 9: `kill -9` while a run was pending, running or promoting; worker and server are restarted at once")
    print("\n".join(markdown.markdown(["killed", "while", "marked", "the next run began after", "and ended as"], rows)))
    print(f"Of {len(runs)} runs: {dict(healthy)}; {len(rows)} were killed.")


def _is(served: Any, project: Any, run_id: Any, when: str) -> bool:
    if when == "pending":
        return served.flow(run_id) is not None and served.state(run_id).is_pending()
    if when == "running":
        return project.stage("clean") is not None
    return served.process_with("sentiflow models promote", run_id) is not None


def _accepted(served: Any) -> Any:
    """The id of the first run that is not cancelled because another one is still running."""
    while True:
        run_id = served.begin()
        while not ((state := served.state(run_id)).is_running() or state.is_final()):
            time.sleep(0.1)
        if not state.is_cancelled():
            return run_id


# --- common -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _trial(project: SmallProject, top: Path, span: float = SPAN) -> Iterator[SmallProject]:
    folder = top / "trial" / "project"
    copy = project.copy(folder, span)
    try:
        yield copy
    finally:
        _kill(copy.processes())
        shutil.rmtree(folder.parent)


def _make_stale(copy: SmallProject, name: str) -> None:
    """Makes a stage stale, as a code change that gives the same results does."""
    lock = (copy.folder / "dvc.lock").read_text(encoding="utf-8")
    before, mark, after = lock.partition(f"  {name}:\n")
    (copy.folder / "dvc.lock").write_text(before + mark + after.replace("md5: ", "md5: 0", 1), encoding="utf-8")
    shutil.rmtree(copy.folder / ".dvc/cache/runs", ignore_errors=True)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _wait(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"condition not met in {TIMEOUT:.0f} s")
        time.sleep(0.01)


if __name__ == "__main__":
    typer.run(main)
