"""Fresh clones of the project whose services run on free ports, and their members."""

import contextlib
import os
import re
import tempfile
import uuid
from pathlib import Path

import ports
import processes
import psutil
from clones import fresh
from supervised import Supervised

from services import secrets
from services.secrets import ADDRESSES, PORTS, SECRETS, Secrets, generated

READY = "All services answer."
OURS = "SENTIFLOW_TEST_TEAM"  # environment variable of all processes of a team


class Team(Supervised):
    """A clone that serves a team, to be used, killed, lost and brought back."""

    def __init__(self, folder):
        super().__init__(fresh(folder, {}), folder.parent / f"{folder.name}.log")
        self.mark = uuid.uuid4().hex

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

    def run(self, *words, **environment):
        ended = self.call(*words, **environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def start(self):
        self.launch("services", "up", until=READY)

    def wrapper(self, name):
        held = {each: processes.command(each) for each in self.processes()}
        [found] = [each for each, words in held.items() if words[1:3] == ["-m", "services.supervise"] and name in words]
        return found

    def postmaster(self):
        return psutil.Process(int((self.services / "postgresql/postmaster.pid").read_text().splitlines()[0]))

    def processes(self):
        """All running processes of the team. PostgreSQL overwrites its environment with its title."""
        within = f"{self.services}/"
        return processes.that(lambda each: each.environ().get(OURS) == self.mark or each.cwd().startswith(within))

    def member(self, name, *options):
        """Environment variables of a new member, as printed by `sentiflow services member`."""
        return exports(self.run("services", "member", name, *options))


def fresh_secrets():
    """Generated secrets with the default ports."""
    return Secrets({**{name: generated() for name in SECRETS}, **PORTS, **dict.fromkeys(ADDRESSES, "")})


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
