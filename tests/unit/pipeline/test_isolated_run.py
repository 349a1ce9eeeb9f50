import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import dvc_projects
import processes
import pytest

from sentiflow.config import params
from sentiflow.pipeline import isolated_run
from sentiflow.system import entry_point, locks
from sentiflow.system.errors import InputError

TOP = Path(__file__).parents[3]
RUN = {"nb_svm": "nb_svm", "lstm": "recurrent"}
NETWORKS = RUN | {"rnn": "recurrent", "gru": "recurrent"}
PIPELINE = """
stages:
  train:
    foreach: ${run}
    do:
      cmd: sh stages/train.sh ${key}
      deps: [data/external, stages/train.sh]
      params: [seed, "models.${key}"]
      outs: ["models/${key}"]
  compare:
    cmd: mkdir -p reports && ls models > reports/comparison.md && echo $MLFLOW_TRACKING_URI > reports/report.html
    deps: [models]
    outs: [reports/comparison.md: {cache: false}, reports/report.html: {cache: false}]
"""
TRAIN = 'set -e; mkdir -p models/$1; cat data/external/* > models/$1/weights; echo $1 >> "$TRAINED"\n'
SLEEPING = "sleep 61\n"
MEANWHILE = {".cache", ".dvc"}


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory):
    """A project of our stages' shape with two models, run once."""
    top = tmp_path_factory.mktemp("finished")
    files = {
        "params.yaml": isolated_run.with_changes((TOP / "params.yaml").read_text(), {"run": RUN}),
        "dvc.yaml": PIPELINE,
        "stages/train.sh": TRAIN,
        "src/sentiflow_of_user/module.py": "VALUE = 1\n",
        "data/external/reviews.txt": "good\n",
    }
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    environment = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(top.parent / "site"), "TRAINED": str(top / ".dvc/trained")}
    for command in (["init", "-q", "--no-scm"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=top, check=True, env=os.environ | environment)
    return top


@pytest.fixture
def project(finished_project, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(TOP / "src"))
    monkeypatch.setenv("TRAINED", str(tmp_path / "trained"))
    return dvc_projects.copy(finished_project, tmp_path, monkeypatch)


def run(names, **more):
    with isolated_run.running("some", {"run": {name: NETWORKS[name] for name in names}}, again="make some", **more) as folder:
        return folder


def trained():
    """What was really trained since the project was finished, in order; the rest came from DVC's cache."""
    file = Path(os.environ["TRAINED"])
    return file.read_text().split() if file.exists() else []


def start(*arguments):
    command = [sys.executable, "-m", "sentiflow", *arguments]
    with processes.heeding_signals():
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def contents(top):
    """Every file of the project but what runs leave in hidden folders."""
    files = [path for path in top.rglob("*") if path.is_file() and not MEANWHILE & set(path.relative_to(top).parts)]
    return {path: path.read_bytes() for path in files}


def test_sample_run_changes_no_file_of_the_project_and_prints_where_its_results_are(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://a.server.of.the.team")
    before = contents(project)
    trial = start("repro", "--sample", "400")
    output = trial.communicate(timeout=120)[0]
    assert trial.returncode == 0, output
    assert contents(project) == before
    folder = isolated_run.FOLDER / "sample"
    assert params.load(folder / "params.yaml").download.sample == 400
    assert (folder / "reports/report.html").read_text() == "sqlite:///mlflow.db\n"  # the store that its stages are given
    assert f"Reports of this trial: {folder}/reports/report.html\n" in output
    assert f"Its MLflow store: sqlite:///{project}/{folder}/mlflow.db\n" in output
    assert "nb_svm" in output  # its comparison


@pytest.mark.parametrize("rows", ["0", "19", "-400"])
def test_sample_with_too_few_reviews_is_rejected(project, rows):
    refused = start("repro", "--sample", rows)
    output = refused.communicate(timeout=60)[0]
    assert refused.returncode == 1
    assert output == f"error: received --sample {rows}; expected at least 20 reviews, for example: sentiflow repro --sample 400\n"
    assert not isolated_run.FOLDER.exists()


# what is shared with the project and what is not


def test_models_are_restored_between_project_and_isolated_run_instead_of_trained_again(project):
    folder = run(["nb_svm", "rnn"])
    assert trained() == ["rnn"]
    assert (folder / "models/rnn/weights").read_text() == (folder / "models/nb_svm/weights").read_text() == "good\n"
    assert not (project / "models/rnn").exists()

    Path("params.yaml").write_text(
        isolated_run.with_changes(Path("params.yaml").read_text(), {"run": RUN | {"rnn": "recurrent"}})
    )
    subprocess.run([sys.executable, "-m", "sentiflow", "repro"], check=True, capture_output=True)
    assert (project / "models/rnn/weights").read_text() == "good\n"
    assert trained() == ["rnn"]


def test_isolated_run_changes_no_file_of_the_project(project):
    before = contents(project)
    run(["rnn", "gru"])
    assert contents(project) == before


def test_second_isolated_run_does_nothing(project, capfd):
    folder = run(["nb_svm", "rnn"])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and ".dvc" not in path.parts}
    capfd.readouterr()
    run(["nb_svm", "rnn"])
    assert "Running stage" not in capfd.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in before}
    changed = {str(path.relative_to(folder)) for path in before if before[path] != after[path]}
    assert changed <= {"params.yaml", "dvc.yaml", ".dvcignore"}


def test_only_the_targets_run(project):
    folder = run(["nb_svm", "rnn"], targets=["train@rnn"])
    assert trained() == ["rnn"]
    assert not (folder / "models/nb_svm").exists()


def test_parameters_are_those_of_the_project_except_the_changed_ones(project):
    Path("params.yaml").write_text(isolated_run.with_changes(Path("params.yaml").read_text(), {"seed": 8}))
    with isolated_run.running("some", {"run": {"nb_svm": "nb_svm"}, "train.patience": None}, again="make some") as folder:
        there, here = params.load(folder / "params.yaml"), params.load()
    assert (there.seed, there.run, there.train.patience) == (8, {"nb_svm": "nb_svm"}, None)
    assert there.models == here.models
    assert "# epochs without improvement before training stops" in (folder / "params.yaml").read_text()


def refreshed(**changes):
    isolated_run.refresh(Path("copy"), changes, cache=Path("cache").absolute())
    return Path("copy")


def test_changed_added_and_removed_code_is_copied_to_the_next_isolated_run(project):
    refreshed()
    Path("stages/train.sh").write_text(TRAIN + "# changed\n")
    Path("src/sentiflow_of_user/more.py").write_text("VALUE = 2\n")
    Path("src/sentiflow_of_user/module.py").unlink()
    folder = refreshed()
    assert (folder / "stages/train.sh").read_text().endswith("# changed\n")
    assert [path.name for path in (folder / "src/sentiflow_of_user").iterdir()] == ["more.py"]


def test_caches_of_tools_next_to_the_code_are_not_copied(project):
    for name in ("src/sentiflow_of_user/__pycache__/module.pyc", "src/.ruff_cache/x", "src/sentiflow.egg-info/PKG-INFO"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text("left")
    folder = refreshed()
    assert [str(path.relative_to(folder)) for path in folder.rglob("src/**/*") if path.is_file()] == [
        "src/sentiflow_of_user/module.py"
    ]


def test_reviews_of_the_user_are_found_even_after_the_project_was_moved(project, tmp_path, monkeypatch):
    folder = refreshed()
    assert (folder / "data/external/reviews.txt").read_text() == "good\n"
    moved = shutil.move(project, tmp_path / "moved")
    monkeypatch.chdir(moved)
    assert (refreshed() / "data/external/reviews.txt").read_text() == "good\n"


def test_location_outside_data_external_is_made_absolute(project):
    places = {
        "download.csv.location": "mine/reviews.csv",
        "download.tsv.location": "https://example.org/a.tsv",
        "download.folder.location": "mine/texts",
    }
    Path("params.yaml").write_text(isolated_run.with_changes(Path("params.yaml").read_text(), places))
    download = params.load(refreshed() / "params.yaml").download
    assert download.csv.location == str(project / "mine/reviews.csv")
    assert download.tsv.location == "https://example.org/a.tsv"
    assert download.folder.location == str(project / "mine/texts")
    assert download.aclimdb.location == params.load().download.aclimdb.location


def test_cache_is_that_of_the_project_even_with_special_characters_in_its_path(project, tmp_path):
    cache = tmp_path / "a cache, with # and 'signs'"
    subprocess.run([sys.executable, "-m", "dvc", "config", "cache.dir", str(cache)], check=True)
    folder = run(["rnn"])
    result = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], cwd=folder, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(cache)
    assert (cache / "runs").is_dir()


def test_invalid_changed_value_is_named_in_the_error(project):
    with pytest.raises(InputError, match=r"copy/params\.yaml cannot be used:\n  train\.patience: received 'long'"):
        refreshed(**{"train.patience": "long"})


def test_changing_an_unknown_key_is_an_error():
    with pytest.raises(KeyError, match=r"train\.patients"):
        isolated_run.with_changes("train:\n  patience: 2\n", {"train.patients": 3})


# every model


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "sqlite:///{here}/mlflow.db"),
        ("", "sqlite:///{here}/mlflow.db"),
        ("sqlite:///store/runs.db", "sqlite:///{here}/store/runs.db"),
        ("sqlite:////srv/runs.db", "sqlite:////srv/runs.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_tracking_uri_is_independent_of_the_working_folder(given, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if given is None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert isolated_run.tracking_uri() == expected.format(here=tmp_path)


def test_all_models_are_run_and_their_reports_are_copied(project, capfd):
    isolated_run.run_all()
    names = sorted(params.load().networks)
    assert sorted(trained()) == sorted(set(names) - {"nb_svm", "lstm"})
    assert Path("reports/all.md").read_text().split() == names
    assert Path("reports/all.html").read_text() == f"sqlite:///{project}/mlflow.db\n"
    output = capfd.readouterr().out
    assert output.endswith(f"{names[-1]}\n\nReports: reports/all.md, reports/all.html\nMLflow UI: sentiflow ui\n")
    assert "Report: reports/comparison.md" not in output


# mistakes, signals, two at once


def test_failed_stage_ends_in_an_error_and_status_1_and_the_reports_of_an_earlier_run_stay(project):
    Path("reports/all.md").write_text("earlier\n")
    Path("stages/train.sh").write_text("exit 3\n")
    failed = start("all-models")
    output = failed.communicate(timeout=120)[0]
    assert failed.returncode == 1, output
    assert "error: the run in .cache/side/all ended with status 1" in output
    assert "`sentiflow all-models` resumes" in output
    assert "Traceback" not in output
    assert Path("reports/all.md").read_text() == "earlier\n"


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_every_process_of_an_isolated_run(project, sign, status):
    Path("stages/train.sh").write_text(SLEEPING)
    started = start("all-models")
    try:
        processes.wait_until(lambda: processes.working_below(project, "sleep"))
        started.send_signal(sign)
        output = started.communicate(timeout=60)[0]
        assert started.returncode == status, output
        assert processes.working_below(project) == []
        assert "Traceback" not in output
    finally:
        processes.kill(processes.working_below(project))


def test_second_isolated_run_of_the_same_name_waits_for_the_first(project):
    with locks.locked(isolated_run.FOLDER / ".all.lock"):
        second = start("all-models")
        output = [second.stdout.readline(), second.stdout.readline()]
        assert f"waiting for process {os.getpid()}" in output[1], output
        assert not (isolated_run.FOLDER / "all").exists()
        second.send_signal(signal.SIGINT)
    output = second.communicate(timeout=60)[0]
    assert second.returncode == 130, output
    assert "Traceback" not in output


def test_folder_in_which_a_pipeline_is_still_running_is_not_changed(project, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.5)
    with locks.locked(isolated_run.FOLDER / "some/.dvc/tmp/sentiflow.lock"), pytest.raises(InputError, match="is still running"):
        run(["rnn"])
    assert not (isolated_run.FOLDER / "some/dvc.yaml").exists()


def test_project_that_was_copied_without_its_hidden_files_is_named_in_the_error(project):
    shutil.rmtree(".dvc")
    with pytest.raises(InputError, match=r"no \.dvc folder in .*copied with its hidden files"):
        run(["rnn"])


def test_disk_that_refuses_is_named_without_a_traceback(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"), entry_point.handled():
        (tmp_path / "no" / "folder").write_text("")
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/no/folder: no such file or folder; check the path")
