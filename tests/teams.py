"""Fresh clones of the project whose services run on free ports, and their members."""

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
from services.secrets import PORTS

PATIENCE = 900.0  # timeout in seconds for the services to start
READY = "All services answer."
OURS = "SENTIFLOW_TEST_TEAM"  # environment variable of all processes of a team


class Team:
    """A clone that runs the services of a team."""

    def __init__(self, folder):
        self.folder = fresh(folder, {})
        self.log = folder.parent / f"{folder.name}.log"
        self.mark = uuid.uuid4().hex
        self._started = None

    def make_secrets(self):
        """Generate the secrets, then set free ports."""
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
        """Completed process of a command of the program."""
        own = self.environment(**environment)
        return subprocess.run(command(*words), cwd=self.folder, env=own, capture_output=True, text=True, timeout=PATIENCE)

    def run(self, *words, **environment):
        ended = self.call(*words, **environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def refused(self, *words, **environment):
        """Standard error of a command that fails without a traceback."""
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
        """Log since the last start."""
        return self.log.read_text(errors="replace").rpartition("-" * 80)[2]

    def wait(self, done):
        processes.wait_until(done, PATIENCE, 0.2, lambda: f"{self.processes()} {self.said()[-5000:]}")

    def wait_until_all_ended(self):
        self._started.wait(PATIENCE)
        self.wait(lambda: not self.processes())

    def end(self, sign=signal.SIGINT):
        """Send a signal to the supervisor, and wait until all processes have ended."""
        self.supervisor().send_signal(sign)
        self.wait_until_all_ended()

    def supervisor(self):
        return psutil.Process(self._started.pid)

    def holder(self, name):
        held = {each: processes.command(each) for each in self.processes()}
        [found] = [each for each, words in held.items() if words[1:3] == ["-m", "services.supervise"] and name in words]
        return found

    def postmaster(self):
        return psutil.Process(int((self.services / "postgresql/postmaster.pid").read_text().splitlines()[0]))

    def processes(self):
        """All running processes of the team. PostgreSQL overwrites its environment with its title."""
        within = f"{self.services}/"
        return processes.that(lambda each: each.environ().get(OURS) == self.mark or each.cwd().startswith(within))

    def kill_everything(self):
        """Kill all processes with SIGKILL, as in a power failure."""
        processes.kill_all(self.processes)
        if self._started is not None:
            self._started.wait(PATIENCE)

    def member(self, name, *options):
        """Environment variables of a new member, as printed by `sentiflow services member`."""
        return exports(self.run("services", "member", name, *options))


def command(*words):
    return [sys.executable, "-m", "sentiflow", *words]


def exports(text):
    return dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE))


@contextlib.contextmanager
def team():
    """A team with secrets, in a folder that PostgreSQL's user can access."""
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
