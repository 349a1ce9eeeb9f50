"""Duration of `sentiflow repro` with one stage at a time and with one per core, to choose `retrain.side_by_side`.

Trains every model of `run:` on the default data from scratch, each time in a new folder. Networks train for one epoch by default,
which keeps their shares of the time roughly equal. `--epochs 0` uses the epochs of params.yaml.

python benchmarks/side_by_side.py [--at-once 1 --at-once 2] [--epochs N] [--sample N]
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from sentiflow.models import settings
from sentiflow.pipeline import isolated_run, workers


def project(folder: Path, at_once: int, epochs: int, sample: int) -> None:
    """Copies the code of this project without its outputs."""
    changes: dict[str, Any] = {"retrain.side_by_side": at_once}
    if sample:
        changes["download.sample"] = sample
    p = settings.load()
    for name in p.run if epochs else ():
        if "epochs" in p.models[name]:
            changes[f"models.{name}.epochs"] = epochs
    folder.mkdir()
    isolated_run.refresh(folder, changes, cache=folder / ".dvc/cache")


def measured(folder: Path) -> tuple[float, float, int]:
    """Elapsed seconds, CPU seconds and peak memory in bytes, of all processes."""
    environment = workers.environment(1) | {"PYTHONPATH": str(folder / "src"), "MLFLOW_TRACKING_URI": ""}
    before, most, started = os.times(), 0, time.perf_counter()
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "sentiflow", "repro"]
        run = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while run.poll() is None:
            most = max(most, _memory(run.pid))
            time.sleep(0.5)
    if run.returncode:
        raise RuntimeError(f"sentiflow repro failed:\n{(folder / 'log').read_text()[-3000:]}")
    after = os.times()
    used = sum(after[kind] - before[kind] for kind in (2, 3))  # of finished child processes
    return time.perf_counter() - started, used, most


def _memory(pid: int) -> int:
    total = 0
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.Error:
        pass
    return total


def main(
    at_once: Annotated[list[int] | None, typer.Option(min=1, help="Stages at a time; the first is the baseline.")] = None,
    epochs: Annotated[int, typer.Option(min=0, help="Epochs of each network; 0 for those of params.yaml.")] = 1,
    sample: Annotated[int, typer.Option(min=0, help="Reviews; 0 for all.")] = 0,
) -> None:
    print(
        f"on {len(os.sched_getaffinity(0))} cores, load before: {os.getloadavg()[0]:.1f}; {len(settings.load().run)} models",
        flush=True,
    )
    print(f"{'at once':>8} {'minutes':>8} {'ratio':>6} {'CPU minutes':>18} {'peak memory':>15}", flush=True)
    first = None
    with tempfile.TemporaryDirectory() as made:
        for number in at_once or [1, len(os.sched_getaffinity(0))]:
            folder = Path(made) / str(number)
            project(folder, number, epochs, sample)
            took, used, memory = measured(folder)
            first = first or took
            print(f"{number:8} {took / 60:8.1f} {first / took:6.2f} {used / 60:18.1f} {memory / 1e9:12.1f} GB", flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
