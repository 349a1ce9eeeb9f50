import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import commands
import pytest
import typer.main

from sentiflow.cli import environment, program
from sentiflow.sharing import push_pull
from sentiflow.system import own_code
from sentiflow.system.errors import InputError, UnavailableError

ROOT = typer.main.get_command(program.app)
HEAVY = {"tensorflow", "keras", "mlflow", "prefect", "dvc", "pandas", "numpy", "sklearn", "pydantic"}


def leaves(command=ROOT, words=()):
    """Every command with its words."""
    if not hasattr(command, "commands"):
        return [(words, command)]
    return [leaf for name, each in command.commands.items() for leaf in leaves(each, (*words, name))]


def called(folder, *words, **variables):
    command = [sys.executable, "-m", "sentiflow", *words]
    return subprocess.run(command, cwd=folder, env=os.environ | variables, capture_output=True, text=True)


@pytest.mark.parametrize(("words", "command"), leaves(), ids=lambda each: " ".join(each) if isinstance(each, tuple) else "")
def test_help_of_every_command_has_an_example_and_explains_each_parameter(words, command, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        status, output, _ = commands.run(capsys, *words, "--help")
    assert status == 0
    assert f"Usage: sentiflow {' '.join(words)}" in output
    assert f"sentiflow {' '.join(words)}" in command.help.partition("Example")[2]
    assert [each.name for each in command.params if not each.help and each.name != "help"] == []


def test_the_program_starts_without_heavy_imports():
    code = "import sys; from sentiflow.cli import program; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in loaded
    assert HEAVY & set(loaded) == set()


@pytest.mark.parametrize("words", [("models", "list"), ("repro",), ("services", "up"), ("hooks",)], ids=" ".join)
def test_commands_outside_a_project_say_where_to_run_them(words, tmp_path):
    ended = called(tmp_path, *words)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"error: no sentiflow project in {tmp_path}; run this in the top folder of a project, where params.yaml is\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_version_is_that_of_the_installed_package(tmp_path):
    assert called(tmp_path, "--version").stdout == f"sentiflow {metadata.version('sentiflow')}\n"


def test_unknown_commands_and_options_are_refused(tmp_path):
    for words in (("promote",), ("models", "promote", "--farce"), ("repro", "--sample", "many")):
        ended = called(tmp_path, *words)
        assert ended.returncode == 2
        assert "Try 'sentiflow" in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["models", ""], ["list", "promote", "rollback", "history", "rebuild"]),
        (["predict", "--"], ["--text", "--column", "--out", "--version", "--help"]),
        (["remote", "pu"], ["push", "pull"]),
    ],
)
def test_shell_completes_commands_and_options(typed, expected, tmp_path):
    line = " ".join(["sentiflow", *typed])
    ended = called(tmp_path, _SENTIFLOW_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(typed)))
    assert ended.stdout.split() == expected


@pytest.mark.parametrize(
    ("error", "status"),
    [(InputError("wrong"), 1), (UnavailableError("away"), 75), (OSError(28, "full", "a.csv"), 1), (KeyboardInterrupt(), 130)],
)
def test_exit_status_depends_on_the_kind_of_error(error, status, tmp_path, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").touch()
    monkeypatch.setattr(push_pull, "push", fail)
    ended, _, output = commands.run(capsys, "remote", "push")
    assert ended == status
    assert output.startswith("error: ") or status == 130
    assert "Traceback" not in output


def test_bug_keeps_its_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").touch()
    monkeypatch.setattr(push_pull, "push", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        program.app(["remote", "push"])


# --- environment


@pytest.fixture
def variables(monkeypatch, tmp_path):
    """Minimal environment variables, and an empty working folder."""
    monkeypatch.chdir(tmp_path)
    own = {"PATH": "/usr/bin", "PYTEST_CURRENT_TEST": ""}
    monkeypatch.setattr(os, "environ", own)
    return own


def test_telemetry_is_off_and_the_environments_python_comes_first(variables, tmp_path):
    environment.prepare()
    del variables["PYTEST_CURRENT_TEST"]
    assert variables == {
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": f"{tmp_path}/.prefect",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin",
    }
    before = dict(variables)
    environment.prepare()
    assert variables == before


def test_prefects_folder_can_be_overridden(variables):
    variables["PREFECT_HOME"] = "/elsewhere"
    environment.prepare()
    assert variables["PREFECT_HOME"] == "/elsewhere"


def test_the_projects_code_comes_before_other_packages(variables, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    variables["PYTHONPATH"] = "/foreign"
    environment.use_own_code()
    assert variables["PYTHONPATH"] == "/foreign"
    (tmp_path / "src").mkdir()
    environment.use_own_code()
    assert variables["PYTHONPATH"] == f"{tmp_path}/src:/foreign"
    assert sys.path == [str(tmp_path), "/elsewhere"]


def test_a_copy_with_a_linked_environment_runs_its_own_code(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)  # `make test` sets it to src
    shutil.copytree(own_code.RUNNING, tmp_path / "src/sentiflow")
    program_file = tmp_path / "src/sentiflow/cli/program.py"
    program_file.write_text(program_file.read_text().replace("Train, compare", "A copy: train, compare"))
    assert "A copy" not in called(tmp_path, "--help").stdout
    (tmp_path / ".venv").symlink_to(sys.prefix)
    assert "A copy" in called(tmp_path, "--help").stdout
