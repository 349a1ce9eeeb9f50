"""A folder in which a test starts a command that runs several services, and stops or kills it."""

import contextlib
import signal
import subprocess
import sys
import time

import processes
import psutil

from sentiflow.system import entry_point

PATIENCE = 900.0  # seconds for services to start, on a busy machine


class Supervised:
    """Subclasses define `environment(**more)` and `processes()`."""

    def __init__(self, folder, log):
        self.folder, self.log, self.started = folder, log, None

    def command(self, *words):
        return [sys.executable, "-m", "sentiflow", *words]

    def call(self, *words, **environment):
        """Runs a command of the program; how it ended."""
        own = self.environment(**environment)
        return subprocess.run(self.command(*words), cwd=self.folder, env=own, capture_output=True, text=True, timeout=PATIENCE)

    def refused(self, *words, **environment):
        """Output of a command that fails as it should: without a traceback."""
        ended = self.call(*words, **environment)
        assert ended.returncode in (1, entry_point.TEMPORARY), ended.stdout + ended.stderr
        assert "Traceback" not in ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def launch(self, *words, until, **environment):
        """Starts a command and waits for words in its output."""
        with self.log.open("a") as log:
            log.write(f"{'-' * 80}\n")
            log.flush()
            self.started = subprocess.Popen(
                self.command(*words),
                cwd=self.folder,
                env=self.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait(lambda: until in self.said() or self.started.poll() is not None)
        assert until in self.said(), self.said()[-5000:]

    def said(self):
        """Output since the last start."""
        return self.log.read_text(errors="replace").rpartition("-" * 80 + "\n")[2]

    def wait(self, condition):
        return processes.wait_until(condition, PATIENCE, 0.2, lambda: f"{self.processes()} {self.said()[-5000:]}")

    def wait_until_all_ended(self):
        self.started.wait(PATIENCE)
        self.wait(lambda: not self.processes())

    def end(self, sign=signal.SIGINT):
        """Sends a signal to the supervisor; returns the seconds until all have ended."""
        began = time.monotonic()
        self.supervisor().send_signal(sign)
        self.wait_until_all_ended()
        return time.monotonic() - began

    def supervisor(self):
        return psutil.Process(self.started.pid)

    def kill_everything(self):
        """Like a power cut."""
        processes.kill_all(self.processes)
        if self.started is not None:
            with contextlib.suppress(ProcessLookupError):
                self.started.kill()
            self.started.wait(PATIENCE)
