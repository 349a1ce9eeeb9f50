"""Effect of flipped bytes and interrupted pushes and pulls, compared with plain DVC.

Figure 4: a byte is flipped in random files of DVC's cache or remote; size, time and mode stay the same. Figure 5: files on the
remote are truncated, and a push or a pull is killed. The project has two stages; the remote is a folder.

python benchmarks/integrity.py [FIGURE ...] [--trials N]
"""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from sentiflow.system import markdown

TOP = Path(__file__).parents[1]
FILES = 12  # in the output folder of the first stage
SIZE = 1 << 20  # bytes of each
TIMEOUT = 600.0  # seconds, for a busy machine
MAKE = """\
import random, sys
from pathlib import Path
folder = Path("splits")
folder.mkdir(exist_ok=True)
for number in range({files}):
    (folder / f"{{number}}.bin").write_bytes(random.Random(number).randbytes({size}))
"""
PIPELINE = """\
stages:
  split: {cmd: python make.py, deps: [make.py], outs: [splits]}
  train: {cmd: cat splits/*.bin | md5sum > weights.txt, deps: [splits], outs: [weights.txt]}
"""
DVC, OURS = (sys.executable, "-m", "dvc"), (sys.executable, "-m")
# The command as a user types it, and as it is run here.
COMMANDS = {
    "dvc status": [*DVC, "status"],
    "dvc status --cloud": [*DVC, "status", "--cloud"],
    "dvc push": [*DVC, "push"],
    "dvc pull": [*DVC, "pull"],
    "sentiflow remote push": [*OURS, "sentiflow", "remote", "push"],
    "sentiflow remote pull": [*OURS, "sentiflow", "remote", "pull"],
    "sentiflow remote check": [*OURS, "sentiflow", "remote", "check"],
    "sentiflow remote repair": [*OURS, "sentiflow", "remote", "repair"],
}
CACHE, REMOTE = ".dvc/cache/files/md5", "../remote/files/md5"
# command, and whether the remote has verify = true
PULLS = (("dvc pull", False), ("dvc pull", True), ("sentiflow remote pull", True))


class SmallProject:
    """A project with its remote next to it, in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def made(cls, folder: Path) -> "SmallProject":
        folder.mkdir(parents=True)
        (folder / "make.py").write_text(MAKE.format(files=FILES, size=SIZE), encoding="utf-8")
        (folder / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
        project = cls(folder)
        for command in (["git", "init", "-q"], [*DVC, "init", "-q"]):
            project.call(command)
        config = "[core]\n    analytics = false\n    check_update = false\n    remote = there\n"
        config += "['remote \"there\"']\n    url = ../../remote\n"
        (folder / ".dvc/config").write_text(config, encoding="utf-8")
        for command in ([*DVC, "repro", "-q"], ["git", "add", "-A"], ["git", *WHO, "commit", "-qm", "finished"]):
            project.call(command)
        return project

    def verifies(self) -> None:
        self.call([*DVC, "remote", "modify", "there", "verify", "true"])

    def copy(self, top: Path) -> "SmallProject":
        shutil.copytree(self.folder.parent, top, symlinks=True)
        return SmallProject(top / self.folder.name)

    def clone(self) -> "SmallProject":
        """A clone with an empty cache and the same remote."""
        other = self.folder.with_name("other")
        self.call(["git", "clone", "-q", str(self.folder), str(other)])
        shutil.copyfile(self.folder / ".dvc/config", other / ".dvc/config")
        return SmallProject(other)

    def call(self, command: list[str]) -> str:
        ended = self.run(command)
        if ended.returncode != 0:
            raise RuntimeError(f"{command} exited with status {ended.returncode}:\n{ended.stdout}")
        return ended.stdout

    def run(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )

    @property
    def environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(TOP / "src"), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        own |= {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(self.folder.parent / "site")}
        return os.environ | own

    def objects(self) -> dict[str, str]:
        """Hash by path of everything dvc.lock references: folders, files in them, files."""
        lock = (self.folder / "dvc.lock").read_text(encoding="utf-8")
        splits, weights = re.findall(r"outs:\n    - path: \S+\n      hash: md5\n      md5: (\S+)", lock)
        listed = json.loads(self.place(CACHE, splits).read_bytes())
        return {"splits": splits, "weights.txt": weights} | {f"splits/{each['relpath']}": each["md5"] for each in listed}

    def place(self, store: str, oid: str) -> Path:
        return self.folder / store / oid[:2] / oid[2:]

    def correct(self, store: str, oids: dict[str, str]) -> int:
        return sum(_md5(self.place(store, oid)) == oid.removesuffix(".dir") for oid in oids.values())

    def wrong_files(self, oids: dict[str, str]) -> int:
        """Number of files in the folder that differ from dvc.lock."""
        found = {name: _md5(self.folder / name) for name, oid in oids.items() if not oid.endswith(".dir")}
        return sum(md5 not in (None, oids[name]) for name, md5 in found.items())


WHO = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def main(
    figures: Annotated[list[int] | None, typer.Argument(help="4 or 5; default: both")] = None,
    trials: Annotated[int, typer.Option(min=1, max=FILES, help="number of damaged files, and of kills of each kind")] = 4,
    seed: Annotated[int, typer.Option(help="random seed of files, bytes and times")] = 7,
) -> None:
    drawn = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="integrity-") as name:
        top = Path(name).resolve()
        finished = SmallProject.made(top / "finished" / "project")
        pushed = finished.copy(top / "pushed")
        pushed.call(COMMANDS["dvc push"])
        for figure in figures or [4, 5]:
            started = time.monotonic()
            if figure == 4:
                figure_4(pushed, top, trials, drawn)
            elif figure == 5:
                figure_5_cut(pushed, top, trials, drawn)
                figure_5_killed(finished, pushed, top, trials, drawn)
            else:
                raise typer.BadParameter(f"figure must be 4 or 5, got {figure}")
            print(f"\n({time.monotonic() - started:.0f} s)\n", flush=True)


# --- 4: a flipped byte -----------------------------------------------------------------------------------------------


def figure_4(pushed: SmallProject, top: Path, trials: int, drawn: random.Random) -> None:
    objects = pushed.objects()
    files = {name: oid for name, oid in objects.items() if not oid.endswith(".dir")}
    a_list = {name: oid for name, oid in objects.items() if oid.endswith(".dir")}
    rows = []
    for where, store, some in (("cache", CACHE, files), ("remote", REMOTE, files), ("remote, a folder's list", REMOTE, a_list)):
        chosen = _chosen(some, min(trials, len(some)), drawn)
        places = [drawn.random() for _ in chosen]
        for name in ("dvc status", "dvc status --cloud", "dvc push", "dvc pull", "sentiflow remote repair"):
            with _flipped(pushed, top, store, chosen, places) as copy:
                ended = copy.run(COMMANDS[name])
                found = (_named(ended.stdout, chosen), copy.correct(store, chosen))
                rows.append([where, name, str(ended.returncode), *(f"{count} of {len(chosen)}" for count in found)])
    print("Figure 4: one byte flipped in each of several files, in the cache or on the remote")
    print("\n".join(markdown.markdown(["flipped in", "command", "exit", "named", "correct afterwards"], rows)))

    rows = []
    chosen = _chosen(files, trials, drawn)
    places = [drawn.random() for _ in chosen]
    for name, verifies in PULLS:
        with _flipped(pushed, top, REMOTE, chosen, places) as copy:
            rows.append(_pulled(copy, name, verifies, chosen))
    print("\nThe same on the remote, then a pull into a fresh clone")
    print("\n".join(markdown.markdown(["command", "exit", "named", "wrong files delivered"], rows)))


@contextlib.contextmanager
def _flipped(pushed: SmallProject, top: Path, store: str, chosen: dict[str, str], places: list[float]) -> Iterator[SmallProject]:
    with _trial(pushed, top) as copy:
        for oid, place in zip(chosen.values(), places, strict=True):
            _flip(copy.place(store, oid), place)
        yield copy


# --- 5: an interrupted push or pull ----------------------------------------------------------------------------------


def figure_5_cut(pushed: SmallProject, top: Path, trials: int, drawn: random.Random) -> None:
    chosen = _chosen({name: oid for name, oid in pushed.objects().items() if not oid.endswith(".dir")}, trials, drawn)
    shares = [drawn.random() for _ in chosen]

    @contextlib.contextmanager
    def cut() -> Iterator[SmallProject]:
        with _trial(pushed, top) as copy:
            for oid, share in zip(chosen.values(), shares, strict=True):
                file = copy.place(REMOTE, oid)
                file.chmod(0o644)
                os.truncate(file, int(share * file.stat().st_size))
            yield copy

    rows = []
    for name in ("dvc push", "sentiflow remote repair", "sentiflow remote push"):
        with cut() as copy:
            ended = copy.run(COMMANDS[name])
            rows.append([name, str(ended.returncode), f"{copy.correct(REMOTE, chosen)} of {trials}"])
    print("Figure 5: files on the remote are truncated, then the original clone runs")
    print("\n".join(markdown.markdown(["runs", "exit", "complete afterwards"], rows)))

    rows = []
    for name, verifies in PULLS:
        with cut() as copy:
            rows.append(_pulled(copy, name, verifies, chosen))
    print("\nA fresh clone instead")
    print("\n".join(markdown.markdown(["runs", "exit", "named", "wrong files delivered"], rows)))


def figure_5_killed(finished: SmallProject, pushed: SmallProject, top: Path, trials: int, drawn: random.Random) -> None:
    objects = pushed.objects()
    rows = []
    for what in ("push", "pull"):
        for name in (f"dvc {what}", f"sentiflow remote {what}"):
            intact = complete = 0
            for _ in range(trials):
                with _trial(finished if what == "push" else pushed, top) as copy:
                    at = copy if what == "push" else copy.clone()
                    store = REMOTE if what == "push" else CACHE
                    _killed(at, COMMANDS[name], store, drawn.randrange(1, FILES))
                    intact += sum(at.place(store, oid).exists() for oid in objects.values()) == at.correct(store, objects)
                    at.call(COMMANDS[name])
                    complete += at.correct(store, objects) == len(objects) and not at.wrong_files(objects)
            rows.append([name, f"{intact} of {trials}", f"{complete} of {trials}"])
    print("\n`kill -9` during the transfer, then the same command again")
    print("\n".join(markdown.markdown(["runs", "transferred files complete", "complete after the next run"], rows)))


def _killed(project: SmallProject, command: list[str], store: str, files: int) -> None:
    """Runs a command, and kills it when this number of files was transferred."""
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    place = project.folder / store
    while process.poll() is None and sum(1 for _ in place.glob("??/*")) < files:
        time.sleep(0.001)
    process.kill()
    process.wait()


# --- common -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _trial(project: SmallProject, top: Path) -> Iterator[SmallProject]:
    try:
        yield project.copy(top / "trial")
    finally:
        shutil.rmtree(top / "trial")


def _chosen(objects: dict[str, str], count: int, drawn: random.Random) -> dict[str, str]:
    return {name: objects[name] for name in drawn.sample(sorted(objects), count)}


def _pulled(copy: SmallProject, name: str, verifies: bool, chosen: dict[str, str]) -> list[str]:
    """The table row of a pull into a fresh clone."""
    if verifies:
        copy.verifies()
    other = copy.clone()
    ended = other.run(COMMANDS[name])
    found = (_named(ended.stdout, chosen), other.wrong_files(copy.objects()))
    title = f"{name}, verify = true" if verifies and name.startswith("dvc") else name
    return [title, str(ended.returncode), *(f"{count} of {len(chosen)}" for count in found)]


def _named(output: str, chosen: dict[str, str]) -> int:
    """Number of files that the output reports as damaged, by path or by hash, without the list of added files."""
    output = re.sub(r"^[AM]\s+\S+$", "", output, flags=re.MULTILINE)
    return sum(
        re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", output) is not None or oid in output for name, oid in chosen.items()
    )


def _flip(file: Path, share: float) -> None:
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[int(share * len(content))] ^= 0xFF
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(before.st_mode & 0o777)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _md5(file: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return None


if __name__ == "__main__":
    typer.run(main)
