"""A project that was copied, moved or linked, or that is reached past other packages, runs its own code and nothing else."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clones import LINEAR, PROJECT, commit, fresh, run, sentiflow

pytestmark = pytest.mark.slow

BIN = Path(sys.prefix) / "bin"  # the environment of this project, as it is while it is active
MARK = "this is the copy's code"
NAMES = ["copy", "Ein Ordner mit Blänks"]


def content(folder):
    """A hash of every file, and the target of every link."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file())
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A small project whose stages have run up to the report, so that nothing was published, with its results committed."""
    folder = fresh(tmp_path_factory.mktemp("original") / "project", LINEAR)
    pipeline(folder, "report")
    commit(folder)
    before = content(folder)
    yield folder
    assert content(folder) == before


def pipeline(folder, *targets):
    return run([sys.executable, "-m", "sentiflow", "repro", *targets], folder, PYTHONPATH="src", DVC_NO_ANALYTICS="1")


def copy_of(original, place):
    run(["cp", "-r", str(original), str(place)], original)
    return place


def put_mark(file):
    file.write_text(file.read_text(encoding="utf-8") + f"\nprint({MARK!r})\n", encoding="utf-8")


def active(**environment):
    """The environment variables of a shell in which the environment of another folder is active."""
    return {"PATH": f"{BIN}:{os.environ['PATH']}", "VIRTUAL_ENV": sys.prefix, "DVC_NO_ANALYTICS": "1"} | environment


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_runs_its_own_code(name, original, tmp_path):
    copy = copy_of(original, tmp_path / name)
    put_mark(copy / "src/sentiflow/sharing/versions/history.py")
    assert MARK in sentiflow(copy, "data", "versions").stdout


def test_plain_dvc_of_another_folders_environment_runs_the_copys_code_and_records_it(original, tmp_path):
    copy = copy_of(original, tmp_path / NAMES[1])
    put_mark(copy / "src/sentiflow/reporting/html_report.py")
    said = run(["dvc", "repro", "report"], copy, **active()).stdout
    assert re.findall("^Running stage '(.+)'", said, re.MULTILINE) == ["report"]
    assert MARK in said
    assert (
        hashlib.md5((copy / "src/sentiflow/reporting/html_report.py").read_bytes()).hexdigest() in (copy / "dvc.lock").read_text()
    )


def test_a_command_of_another_folders_environment_refuses_in_one_line(original, tmp_path):
    copy = copy_of(original, tmp_path / "copy")
    command = [str(BIN / "python"), "-m", "sentiflow", "data", "versions"]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # which make sets to the folder's own src
    refused = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=own | active(), check=False)
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert line.startswith(f"error: this environment runs the code of {PROJECT / 'src/sentiflow'}, expected that of {copy}")
    assert "make setup" in line


def test_a_moved_project_is_up_to_date_and_each_target_works(original, tmp_path):
    moved = copy_of(original, tmp_path / "before").rename(tmp_path / NAMES[1])
    assert "up to date" in run(["dvc", "repro", "report"], moved, **active()).stdout
    assert "first version" in sentiflow(moved, "data", "versions").stdout
    assert sentiflow(moved, "plots").stdout.split()[-1] == "dvc_plots/index.html"
    assert (moved / "dvc_plots/index.html").exists()


def test_a_project_reached_by_a_link_is_up_to_date(original, tmp_path):
    copy = copy_of(original, tmp_path / "copy")
    (tmp_path / "link").symlink_to(copy)
    assert "up to date" in run(["dvc", "repro", "report"], tmp_path / "link", **active(PWD=str(tmp_path / "link"))).stdout
    assert "first version" in sentiflow(tmp_path / "link", "data", "versions").stdout


def test_packages_of_the_same_names_on_pythonpath_are_not_run(original, tmp_path):
    copy = copy_of(original, tmp_path / "copy")
    for name in ("sentiflow", "stages", "flows", "services"):
        (tmp_path / "foreign" / name).mkdir(parents=True)
        (tmp_path / "foreign" / name / "__init__.py").write_text("raise SystemExit('a foreign package was imported')\n")
    foreign = str(tmp_path / "foreign")
    made = run(["make", "--old-file", ".venv/.ready", "repro"], copy, PYTHONPATH=foreign)
    assert "MLflow UI" in made.stdout
    run(["dvc", "repro", "--force", "--single-item", "report"], copy, **active(PYTHONPATH=foreign))
    for module in ("flows.local_servers", "services.team"):
        assert "Usage" in run([sys.executable, "-m", module, "--help"], copy, **active(PYTHONPATH=foreign)).stdout


def test_two_runs_in_copies_at_once_do_not_disturb_each_other(original, tmp_path):
    copies = [copy_of(original, tmp_path / name) for name in NAMES]
    for copy in copies:
        params = copy / "params.yaml"
        params.write_text(params.read_text(encoding="utf-8").replace("resamples: 200", "resamples: 300"), encoding="utf-8")
    own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = ["make", "--no-print-directory", "--old-file", ".venv/.ready", "repro"]
    begun = [subprocess.Popen(command, cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=own)
             for copy in copies]  # fmt: skip
    said = [process.communicate()[0] for process in begun]
    assert [process.returncode for process in begun] == [0, 0], said
    for text, copy in zip(said, copies, strict=True):
        assert "waiting for" not in text
        assert (copy / "mlflow.db").exists()
        assert len(list((copy / "mlartifacts/models").iterdir())) == 2
    locks = [(copy / "dvc.lock").read_text() for copy in copies]
    assert locks[0].partition("  register:")[0] == locks[1].partition("  register:")[0]


# --- environments -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A project with an environment of its own, made by `make setup` of a lock of one command, and what builds ours."""
    folder = fresh(tmp_path_factory.mktemp("installed") / "project", {})
    (folder / ".venv").unlink()
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    few = re.findall(r"^(?:tqdm|setuptools)==(?:.*\n)(?:    .*\n)+", lock, re.MULTILINE)
    assert len(few) == 2
    (folder / "requirements.lock").write_text("".join(few), encoding="utf-8")
    setup(folder)
    return folder


def setup(folder):
    return run(["make", "setup"], folder, PYTHONPATH="").stdout


def check_environment(folder):
    """Code, commands and activation are those of the folder."""
    code = "import sentiflow; print(sentiflow.__file__)"
    asked = f"source .venv/bin/activate && echo $VIRTUAL_ENV && command -v tqdm && tqdm --version && python -c '{code}'"
    lines = run(["bash", "-c", asked], folder, PYTHONPATH="").stdout.splitlines()
    assert lines[0] == str(folder / ".venv")
    assert lines[1] == str(folder / ".venv/bin/tqdm")
    assert lines[3] == str(folder / "src/sentiflow/__init__.py")
    assert str(folder.parent / "project") not in (folder / ".venv/bin/tqdm").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_copied_and_a_moved_environment_are_of_their_own_folder(name, installed, tmp_path):
    before = content(installed)
    copy = copy_of(installed, tmp_path / name)
    check_environment(copy)
    moved = copy.rename(tmp_path / f"{name} 2")
    check_environment(moved)
    assert "rebuilding" not in setup(moved)
    check_environment(moved)
    assert content(installed) == before


def test_an_environment_that_cannot_be_moved_is_rebuilt_and_make_says_so(installed, tmp_path):
    copy = copy_of(installed, tmp_path / "copy")
    shutil.rmtree(copy / ".venv")
    run([sys.executable, "-m", "venv", ".venv"], copy)
    (copy / ".venv/.ready").touch()
    assert [line for line in setup(copy).splitlines() if line.startswith("rebuilding .venv")]
    check_environment(copy)


def test_an_environment_whose_python_is_gone_is_rebuilt(installed, tmp_path):
    copy = copy_of(installed, tmp_path / "copy")
    (copy / ".venv/bin/python").unlink()
    (copy / ".venv/bin/python").symlink_to("/usr/lib/no-python")
    assert "rebuilding .venv" in setup(copy)
    check_environment(copy)
