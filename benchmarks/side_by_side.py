"""The default job, one stage at a time against as many as there are cores: what `retrain.side_by_side` is chosen by.

Every model of `run:` on the default data, from scratch, each way in a folder of its own, by the command of `sentiflow repro`. The
networks train for one epoch by default, which leaves their shares of the time about as they are; `--epochs 0`: as in params.yaml.

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
    """The code of this project and nothing that it made."""
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
    """Seconds by the clock, seconds of processor time, and bytes of memory at most, of all its processes."""
    environment = workers.environment(1) | {"PYTHONPATH": str(folder / "src"), "MLFLOW_TRACKING_URI": ""}
    before, most, started = os.times(), 0, time.perf_counter()
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "sentiflow", "repro"]
        run = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while run.poll() is None:
            most = max(most, _memory(run.pid))
            time.sleep(0.5)
    if run.returncode:
        raise RuntimeError(f"it failed:\n{(folder / 'log').read_text()[-3000:]}")
    after = os.times()
    used = sum(after[kind] - before[kind] for kind in (2, 3))  # of children that have ended
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
    at_once: Annotated[
        list[int] | None, typer.Option(min=1, help="Stages at a time; the first is what others are held against.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=0, help="Of each network; 0 for those of params.yaml.")] = 1,
    sample: Annotated[int, typer.Option(min=0, help="Reviews; 0 for all.")] = 0,
) -> None:
    print(
        f"on {len(os.sched_getaffinity(0))} cores, load before: {os.getloadavg()[0]:.1f}; {len(settings.load().run)} models",
        flush=True,
    )
    print(f"{'at once':>8} {'minutes':>8} {'ratio':>6} {'processor minutes':>18} {'memory at most':>15}", flush=True)
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
