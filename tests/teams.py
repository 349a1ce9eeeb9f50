"""Fresh clones of the project whose services run on free ports, with members who use them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import ports
import processes
import psutil
from clones import fresh

from sentiflow.system import entry_point
from services import secrets
from services.secrets import ADDRESSES, PORTS, SECRETS, Secrets, generated

PATIENCE = 900.0  # seconds for services to start, on a busy machine
READY = "All services answer."
OURS = "SENTIFLOW_TEST_TEAM"  # environment variable of all that a team started


class Team:
    """A clone that serves a team, to be used, killed, lost and brought back."""

    def __init__(self, folder):
        self.folder = fresh(folder, {})
        self.log = folder.parent / f"{folder.name}.log"
        self.mark = uuid.uuid4().hex
        self._started = None

    def make_secrets(self):
        """As a user does, then with ports that are free."""
        self.run("services", "secrets")
        file = self.folder / ".env"
        text = file.read_text()
        for name, port in zip(PORTS, ports.several(len(PORTS)), strict=True):
            text = text.replace(f"{name}={PORTS[name]}", f"{name}={port}")
        file.write_text(text)

    @property
    def secrets(self):
        return secrets.read(self.folder / ".env")

    @property
    def services(self):
        return self.folder / ".services"

    def environment(self, **more):
        foreign = ("MLFLOW_", "_MLFLOW_", "PREFECT_", "AWS_", "MAKE")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return own | {"PYTHONPATH": str(self.folder / "src"), OURS: self.mark} | more

    def call(self, *words, **environment):
        """How a command of the program ended."""
        own = self.environment(**environment)
        return subprocess.run(command(*words), cwd=self.folder, env=own, capture_output=True, text=True, timeout=PATIENCE)

    def run(self, *words, **environment):
        ended = self.call(*words, **environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def refused(self, *words, **environment):
        """What a command says that fails as it should: with one message."""
        ended = self.call(*words, **environment)
        assert ended.returncode in (1, entry_point.TEMPORARY), ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr

    def start(self):
        with self.log.open("a") as log:
            log.write(f"{'-' * 80}\n")
            log.flush()
            self._started = subprocess.Popen(
                command("services", "up"),
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait(lambda: READY in self.said() or self._started.poll() is not None)
        assert READY in self.said(), self.said()[-5000:]

    def said(self):
        """Since the last start."""
        return self.log.read_text(errors="replace").rpartition("-" * 80)[2]

    def wait(self, done):
        processes.wait_until(done, PATIENCE, 0.2, lambda: f"{self.processes()} {self.said()[-5000:]}")

    def wait_until_all_ended(self):
        self._started.wait(PATIENCE)
        self.wait(lambda: not self.processes())

    def end(self, sign=signal.SIGINT):
        """Sends a signal to the supervisor, and waits until nothing is left."""
        self.supervisor().send_signal(sign)
        self.wait_until_all_ended()

    def supervisor(self):
        return psutil.Process(self._started.pid)

    def wrapper(self, name):
        held = {each: processes.command(each) for each in self.processes()}
        [found] = [each for each, words in held.items() if words[1:3] == ["-m", "services.supervise"] and name in words]
        return found

    def postmaster(self):
        return psutil.Process(int((self.services / "postgresql/postmaster.pid").read_text().splitlines()[0]))

    def processes(self):
        """All that was started here and still lives; PostgreSQL writes its title over its environment."""
        within = f"{self.services}/"
        return processes.that(lambda each: each.environ().get(OURS) == self.mark or each.cwd().startswith(within))

    def kill_everything(self):
        """As a power cut: nothing has the time to say anything."""
        processes.kill_all(self.processes)
        if self._started is not None:
            self._started.wait(PATIENCE)

    def member(self, name, *options):
        """The environment of a new member, as `sentiflow services member` prints it."""
        return exports(self.run("services", "member", name, *options))


def command(*words):
    return [sys.executable, "-m", "sentiflow", *words]


def fresh_secrets():
    """Generated secrets with the default ports."""
    return Secrets({**{name: generated() for name in SECRETS}, **PORTS, **dict.fromkeys(ADDRESSES, "")})


def exports(text):
    return dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE))


@contextlib.contextmanager
def team():
    """A team whose secrets are made; where root runs this, in a folder that PostgreSQL's user can reach."""
    with tempfile.TemporaryDirectory(prefix="team-", dir="/tmp") as name:
        top = Path(name)
        top.chmod(0o711)
        (top / "server").mkdir()
        made = Team(top / "server")
        try:
            made.make_secrets()
            yield made
        finally:
            made.kill_everything()
