"""What Prefect adds to a retraining: the flow on a running server against plain `dvc repro` of the same stages, in turn.

Each run begins with nothing but the code, in a folder of its own, and ends with registered models; the flow's time has the start
of its process in it, and all that it does besides the stages: it looks for new data and for drift, keeps logs and artifacts.
Then both run once more with nothing to do. Beside it, the flow with two stages at a time.

python benchmarks/orchestration.py [--rounds N] [--sample N]
"""

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import requests
import typer

from sentiflow.pipeline import isolated_run, recovery, workers
from services.secrets import generated

A_STAGE, A_RUN = 1.0, 15.0  # seconds that Prefect may add
MODELS = ["logistic", "nb_svm"]
STARTING = 180.0  # seconds for the server to make its tables and answer
PLAIN, ONE, TWO = "dvc repro", "flow, one stage at a time", "flow, two at a time"
COMMANDS = {
    PLAIN: [sys.executable, "-m", "dvc", "repro"],
    ONE: [sys.executable, "-m", "sentiflow", "retrain"],
    TWO: [sys.executable, "-m", "sentiflow", "retrain"],
}


@contextlib.contextmanager
def prefect_server(home: Path) -> Iterator[dict[str, str]]:
    """A Prefect server of its own on a free port; gives the environment by which it is reached."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reached = {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_HOME": str(home)}
    reached |= dict.fromkeys(("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"), f"admin:{generated()}")
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    log = home / "server.log"
    with log.open("w") as said, subprocess.Popen(command, env=os.environ | reached | quiet, stdout=said, stderr=said) as server:
        try:
            until = time.monotonic() + STARTING
            while not answers(reached["PREFECT_API_URL"]):
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"Prefect's server did not start:\n{log.read_text()}")
                time.sleep(0.2)
            yield reached | quiet
        finally:
            server.terminate()


def answers(api: str) -> bool:
    try:
        return bool(requests.get(f"{api}/health", timeout=5).json() is True)
    except requests.RequestException:
        return False


def project(folder: Path, how: str, sample: int) -> Path:
    """The code of this project and nothing that it made, with a small sample and two linear models."""
    folder.mkdir()
    changes: dict[str, Any] = {
        "run": {name: name for name in MODELS},
        "download.source": "package",
        "download.sample": sample,
        "evaluate.resamples": 200,
        "promotion.latency_ms": 10_000.0,
        "retrain.side_by_side": 2 if how == TWO else 1,
        "retrain.notify": [],
    }
    isolated_run.refresh(folder, changes, cache=folder / ".dvc/cache")
    for package in ("flows", "services", "src"):
        shutil.copytree(package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2("pyproject.toml", folder)
    return folder


def seconds(how: str, folder: Path, environment: dict[str, str]) -> float:
    own = workers.environment(1) | environment | {"PYTHONPATH": str(folder / "src"), "MLFLOW_TRACKING_URI": ""}
    started = time.perf_counter()
    ended = subprocess.run(COMMANDS[how], cwd=folder, env=own, capture_output=True, text=True)
    if ended.returncode != 0:
        raise RuntimeError(f"{how} failed:\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}")
    return time.perf_counter() - started


def stages_of(folder: Path) -> int:
    with contextlib.chdir(folder):
        return len(recovery.lock_entries())


def line(name: str, took: dict[str, list[float]], how: str, stages: int) -> str:
    median, plain = statistics.median(took[how]), statistics.median(took[PLAIN])
    each = ", ".join(f"{value:.1f}" for value in took[how])
    a_stage = f"{(median - plain) / stages:+6.2f}" if stages else f"{'':>6}"
    return f"{name:14} {how:26} {median:7.1f} {median / plain:6.2f} {median - plain:+7.1f} {a_stage}   {each}"


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each; the median counts.")] = 3,
    sample: Annotated[int, typer.Option(min=100, help="Reviews.")] = 400,
) -> None:
    print(f"on {len(os.sched_getaffinity(0))} cores, load before: {os.getloadavg()[0]:.1f}", flush=True)
    scratch, idle = defaultdict(list), defaultdict(list)
    with tempfile.TemporaryDirectory() as made:
        home = Path(made) / "prefect"
        home.mkdir()
        with prefect_server(home) as environment:
            for turn in range(rounds):
                for how in COMMANDS:
                    folder = project(Path(made) / str(turn), how, sample)
                    scratch[how].append(seconds(how, folder, environment))
                    idle[how].append(seconds(how, folder, environment))
                    stages = stages_of(folder)
                    shutil.rmtree(folder)
    print(f"{stages} stages, {rounds} turns of each; medians\n")
    print(f"{'':14} {'':26} {'s':>7} {'ratio':>6} {'a run':>7} {'a stage':>6}  s of each turn")
    for name, took, counted in (("from scratch", scratch, stages), ("nothing to do", idle, 0)):
        for how in COMMANDS:
            print(line(name, took, how, counted))
    added = statistics.median(scratch[ONE]) - statistics.median(scratch[PLAIN])
    within = {"a stage": (added / stages, A_STAGE), "a run": (added, A_RUN)}
    print()
    for what, (found, allowed) in within.items():
        print(f"adds {found:+.2f} s {what}; must stay under {allowed:g} s: {'pass' if found < allowed else 'FAIL'}")
    sys.exit(any(found >= allowed for found, allowed in within.values()))


if __name__ == "__main__":
    typer.run(main)
