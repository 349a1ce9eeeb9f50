"""Overhead of Prefect: the retraining flow on a running server, compared with plain `dvc repro` of the same stages.

Every run starts from the code alone, in a folder of its own, and ends with registered models. The time of the flow includes the
start of its process and everything that it does besides the stages: checks for new data and drift, logs, artifacts. Then each
runs again with nothing to do. The flow is also measured with two stages at a time.

python benchmarks/orchestration.py [--rounds N] [--sample N]
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer

from sentiflow.pipeline import isolated_run, recovery, workers

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from prefect_servers import Server

LIMITS = {"per stage": 1.0, "per run": 15.0}  # seconds that Prefect may add
MODELS = ["logistic", "nb_svm"]
DVC, ONE, TWO = "dvc repro", "flow, one stage at a time", "flow, two at a time"
COMMANDS = {DVC: ["dvc", "repro"], ONE: ["sentiflow", "retrain"], TWO: ["sentiflow", "retrain"]}


def project(folder: Path, variant: str, sample: int) -> Path:
    """The project's code without any results, with two linear models on a small sample."""
    folder.mkdir()
    changes: dict[str, Any] = {
        "run": {name: name for name in MODELS},
        "download.source": "package",
        "download.sample": sample,
        "evaluate.resamples": 200,
        "promotion.latency_ms": 10_000.0,
        "retrain.side_by_side": 2 if variant == TWO else 1,
        "retrain.notify": [],
    }
    isolated_run.refresh(folder, changes, cache=folder / ".dvc/cache")
    for package in ("flows", "services", "src"):
        shutil.copytree(package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2("pyproject.toml", folder)
    return folder


def seconds(variant: str, folder: Path, server: Server) -> float:
    own = {"PYTHONPATH": str(folder / "src"), "MLFLOW_TRACKING_URI": ""}
    command = [sys.executable, "-m", *COMMANDS[variant]]
    started = time.perf_counter()
    ended = subprocess.run(
        command, cwd=folder, env=workers.environment(1) | server.environment | own, capture_output=True, text=True
    )
    if ended.returncode != 0:
        raise RuntimeError(f"{variant} failed:\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}")
    return time.perf_counter() - started


def row(name: str, took: dict[str, list[float]], variant: str, stages: int) -> str:
    median, plain = statistics.median(took[variant]), statistics.median(took[DVC])
    rounds = ", ".join(f"{value:.1f}" for value in took[variant])
    per_stage = f"{(median - plain) / stages:+6.2f}" if stages else " " * 6
    return f"{name:14} {variant:26} {median:7.1f} {median / plain:6.2f} {median - plain:+7.1f} {per_stage}   {rounds}"


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each variant; the median counts.")] = 3,
    sample: Annotated[int, typer.Option(min=100, help="Reviews.")] = 400,
) -> None:
    print(f"on {len(os.sched_getaffinity(0))} cores, load before: {os.getloadavg()[0]:.1f}", flush=True)
    scratch, idle = defaultdict(list), defaultdict(list)
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        server = Server(Path(made) / "prefect")
        stack.callback(server.kill)
        server.start()
        for number in range(rounds):
            for variant in COMMANDS:
                folder = project(Path(made) / str(number), variant, sample)
                scratch[variant].append(seconds(variant, folder, server))
                idle[variant].append(seconds(variant, folder, server))
                with contextlib.chdir(folder):
                    stages = len(recovery.lock_entries())
                shutil.rmtree(folder)
    print(f"{stages} stages, {rounds} runs of each variant; medians\n")
    print(f"{'':14} {'':26} {'s':>7} {'ratio':>6} {'per run':>7} {'stage':>6}   s of each run")
    for name, took, counted in (("from scratch", scratch, stages), ("nothing to do", idle, 0)):
        for variant in COMMANDS:
            print(row(name, took, variant, counted))
    added = statistics.median(scratch[ONE]) - statistics.median(scratch[DVC])
    print()
    for (what, limit), found in zip(LIMITS.items(), (added / stages, added), strict=True):
        print(f"Prefect adds {found:+.2f} s {what}; limit {limit:g} s: {'pass' if found < limit else 'FAIL'}")
    sys.exit(added / stages >= LIMITS["per stage"] or added >= LIMITS["per run"])


if __name__ == "__main__":
    typer.run(main)
