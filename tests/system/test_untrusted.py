"""What somebody else wrote, through the commands of the Makefile: nothing of it is run, and nothing of it steers the terminal."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from clones import PROJECT

# One value with everything that make, a shell, an option parser or a terminal acts on; a file may have it as its name.
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
    for name in ("Makefile", "params.yaml"):
        (tmp_path / name).write_bytes((PROJECT / name).read_bytes())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def make(folder, *words, **given):
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "MAKE", "PREFECT_"))}
    command = ["make", "--no-print-directory", "--old-file", ".venv/.ready", *words]
    environment = own | {"PYTHONPATH": str(PROJECT / "src")} | given
    return subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=SECONDS
    )


# target, the variable that holds what is hostile, the others, and what is said of it
COMMANDS = {
    "predict a file": ("predict", "FILE", [], "received FILE=--help"),
    "predict into a file": ("predict", "OUT", ["FILE=reviews.csv"], "no registered version is champion"),
    "predict a column": ("predict", "COLUMN", ["FILE=reviews.csv"], "no registered version is champion"),
    "predict a text": ("predict", "TEXT", [], "no registered version is champion"),
    "drift of a file": ("drift", "FILE", [], "received FILE=--help"),
    "explain a text": ("explain", "TEXT", [], "no model is trained yet"),
    "explain with a model": ("explain", "MODEL", ["TEXT=fine"], "no model is trained yet"),
    "explain into a picture": ("explain", "OUT", ["TEXT=fine"], "expected a name that ends in .png"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_value_of_a_make_variable_is_run_or_reaches_the_terminal_as_it_is(name, folder):
    target, variable, others, said = COMMANDS[name]
    (folder / "reviews.csv").write_text("text\nfine\n", encoding="utf-8")
    ended = make(folder, target, f"{variable}={HOSTILE}", *others)
    assert ended.returncode == 2, ended.stdout
    assert said in ended.stderr.decode()
    assert b"Traceback" not in ended.stderr
    assert not STEERS.search(ended.stdout + ended.stderr)
    assert not list(folder.rglob("ran"))
    assert not Path("ran").exists()


def test_a_folder_of_incoming_files_whose_names_are_hostile_is_told_without_acting_on_them(folder):
    (folder / "sent").mkdir()
    (folder / "sent" / f"{HOSTILE.replace('/', '')}.csv").write_text("\x1b[2J,id\nfine,1\n", encoding="utf-8")
    ended = make(folder, "drift", "FILE=sent")
    assert ended.returncode == 2
    said = ended.stderr.decode()
    assert "no file of sent can be read" in said
    assert "touch ran" in said
    assert "Traceback" not in said
    assert not STEERS.search(ended.stdout + ended.stderr)
    assert not list(folder.rglob("ran"))


# A command that reads each variable, so that its recipe runs with it; whatever that command says, nothing of the value is run.
READ_BY = {
    "serve": ["PORT"],
    "ui": ["PORT", "PREFECT_PORT"],
    "schedule": ["PREFECT_PORT", "TAKE_OVER"],
    "predict": ["TEXT", "FILE", "COLUMN", "OUT", "VERSION"],
    "explain": ["TEXT", "MODEL", "OUT"],
    "promote": ["VERSION", "REASON", "FORCE", "DRY_RUN"],
    "add-reviews": ["FILE", "COMMIT", "START", "SKIP_REJECTED"],
    "data-diff": ["A", "B", "OUT"],
    "verify": ["COMMIT", "FULL"],
    "audit": ["SERVICE"],
    "retrain": ["MODELS", "FORCE", "PROMOTE"],
    "remote": ["URL", "ENDPOINT", "SHARED"],
    "check-data": ["REPAIR"],
    "member": ["NAME", "RESET", "REMOVE"],
    "backup": ["TO"],
    "restore": ["FROM"],
    "repro": ["SAMPLE"],
    "near-copies": ["SIMILARITY"],
    "setup": ["PYTHON", "PREFECT_HOME"],
}
SWITCHES = {"FORCE", "DRY_RUN", "START", "SKIP_REJECTED", "FULL", "PROMOTE", "REPAIR", "RESET", "REMOVE", "TAKE_OVER"}
RUNS = "'\"$(shell touch ran)$$(touch ran)$(touch ran)`touch ran`;touch ran;#"


@pytest.fixture
def recipes(folder):
    """The same with a Python that writes down its arguments: only make and the shell are tried, which come before it."""
    python = folder / "bin/python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >> arguments\n', encoding="utf-8")
    python.chmod(0o755)
    (folder / ".venv").unlink()
    (folder / ".venv").symlink_to(".")
    (folder / "requirements.lock").touch()
    return folder


@pytest.mark.parametrize("by", ["command line", "environment"])
@pytest.mark.parametrize(("target", "variable"), [(target, each) for target, names in READ_BY.items() for each in names])
def test_no_variable_is_expanded_by_make_or_the_shell(recipes, target, variable, by):
    value = f"{RUNS} *"
    words = [f"{variable}={value}"] if by == "command line" else []
    target = ".venv/.ready" if target == "setup" else target
    old = [] if target == ".venv/.ready" else ["--old-file", ".venv/.ready"]
    own = {name: each for name, each in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    given = own | ({} if words else {variable: value})
    subprocess.run(
        ["make", *old, target, *words],
        cwd=recipes,
        env=given,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=SECONDS,
    )
    assert not list(recipes.rglob("ran"))
    if target != ".venv/.ready":
        arguments = (recipes / "arguments").read_text(encoding="utf-8").replace("\n", " ")  # MODELS are words
        assert "Makefile" not in arguments  # what `*` stands for
        assert (RUNS in arguments) is (variable not in SWITCHES)


def test_every_variable_that_a_user_may_give_is_tried():
    [given] = re.findall(r"^GIVEN := ((?:.*\\\n)*.*)$", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(given.replace("\\", "").split()) == {each for names in READ_BY.values() for each in names}


def test_ports_are_numbers_and_switches_are_off_where_they_are_0(recipes):
    make(recipes, "serve", PORT="8001")
    assert (recipes / "arguments").read_text().split() == ["-m", "sentiflow.serving.server", "--port=8001"]
    for value, switched in (("", False), ("0", False), ("1", True), ("yes", True)):
        (recipes / "arguments").unlink()
        ended = make(recipes, "verify", f"FULL={value}")
        assert ended.returncode == 0
        assert ("--full" in (recipes / "arguments").read_text()) is switched
