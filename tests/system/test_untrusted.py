"""What somebody else wrote, through the commands of the program: nothing of it is run, and nothing of it steers the terminal."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from clones import PROJECT

# One value with everything that a shell, an option parser or a terminal acts on; a file may have it as its name.
HOSTILE = (
    "--help \"'$(shell touch ran)$$(touch ran)$(touch ran)`touch ran`;touch ran #|touch ran&touch ran\n"
    "touch ran\n\ttouch ran\n\x1b]0;title\x07\x1b[2J\u202e\r%n${HOME}*\\"
)
STEERS = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xe2\x80[\xaa-\xae]")
SECONDS = 300.0  # on a busy machine

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    """What the commands need before they look at what they were given, and nothing that they could overwrite."""
    (tmp_path / "params.yaml").write_bytes((PROJECT / "params.yaml").read_bytes())
    return tmp_path


def sentiflow(folder, *words):
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))}
    command = [sys.executable, "-m", "sentiflow", *words]
    return subprocess.run(
        command, cwd=folder, env=own, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=SECONDS
    )


# The words of a command, in which * stands for what is hostile, and what is said of it.
COMMANDS = {
    "predict a file": ("predict -- *", "received --help"),
    "predict into a file": ("predict reviews.csv --out *", "no registered version is champion"),
    "predict a column": ("predict reviews.csv --column *", "no registered version is champion"),
    "predict a text": ("predict --text *", "no registered version is champion"),
    "drift of a file": ("data drift -- *", "received --help"),
    "explain a text": ("explain -- *", "no model is trained yet"),
    "explain with a model": ("explain fine --model *", "no model is trained yet"),
    "explain into a picture": ("explain fine --out *", "expected a name that ends in .png"),
    "a stage that does not exist": ("repro -- *", "no dvc.yaml"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_argument_is_run_or_reaches_the_terminal_as_it_is(name, folder):
    words, said = COMMANDS[name]
    (folder / "reviews.csv").write_text("text\nfine\n", encoding="utf-8")
    ended = sentiflow(folder, *(HOSTILE if word == "*" else word for word in words.split()))
    assert ended.returncode == 1, ended.stdout
    assert said in ended.stderr.decode()
    assert b"Traceback" not in ended.stderr
    assert not STEERS.search(ended.stdout + ended.stderr)
    assert not list(folder.rglob("ran"))
    assert not Path("ran").exists()


def test_a_folder_of_incoming_files_whose_names_are_hostile_is_told_without_acting_on_them(folder):
    (folder / "sent").mkdir()
    (folder / "sent" / f"{HOSTILE.replace('/', '')}.csv").write_text("\x1b[2J,id\nfine,1\n", encoding="utf-8")
    ended = sentiflow(folder, "data", "drift", "sent")
    assert ended.returncode == 1
    said = ended.stderr.decode()
    assert "no file of sent can be read" in said
    assert "touch ran" in said
    assert "Traceback" not in said
    assert not STEERS.search(ended.stdout + ended.stderr)
    assert not list(folder.rglob("ran"))
