import copy
import subprocess
from pathlib import Path

import pytest

from sentiflow.pipeline import verify
from sentiflow.pipeline.confined import UnsafeError
from sentiflow.pipeline.verify import Difference, Machines, Outcome

ENTRY = {
    "cmd": "python -m stages.train nb_svm",
    "deps": [{"path": "src/a.py", "hash": "md5", "md5": "1" * 32}, {"path": "data/tokens", "md5": "2" * 32 + ".dir"}],
    "params": {"params.yaml": {"seed": 1, "models.nb_svm": {"alpha": 1.0, "ngrams": 2}}},
    "outs": [{"path": "models/nb_svm", "md5": "3" * 32 + ".dir"}],
}
ENVIRONMENT = {
    "processor": "X",
    "instruction_sets": ["avx", "fma"],
    "gpus": [],
    "libraries": {"numpy": "2.4.6"},
    "python": "3.11.7",
}


def found(change):
    other = copy.deepcopy(ENTRY)
    change(other)
    return list(verify.differences(ENTRY, other))


def test_an_entry_is_equal_to_itself():
    assert found(lambda entry: None) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda entry: entry.update(cmd="other"), Difference("command", "", ENTRY["cmd"], "other")),
        (lambda entry: entry["deps"][0].update(md5="f"), Difference("reads", "src/a.py", "1" * 32, "f")),
        (lambda entry: entry["outs"][0].update(md5="f"), Difference("makes", "models/nb_svm", "3" * 32 + ".dir", "f")),
        (lambda entry: entry["outs"].clear(), Difference("makes", "models/nb_svm", "3" * 32 + ".dir", "none")),
        (lambda entry: entry["deps"].append({"path": "b", "md5": "f"}), Difference("reads", "b", "none", "f")),
        (
            lambda entry: entry["params"]["params.yaml"]["models.nb_svm"].update(ngrams=3),
            Difference("parameter", "params.yaml models.nb_svm ngrams", "2", "3"),
        ),
    ],
)
def test_every_difference_of_an_entry_is_named_with_both_values(change, expected):
    assert found(change) == [expected]


def test_quick_stages_are_those_of_the_data_and_the_linear_models():
    networks = {"lstm": "recurrent", "one_that_is_gone": "gone"}
    stages = [
        "download",
        "clean",
        "split",
        "tokenize",
        "train@lstm",
        "evaluate@lstm",
        "train@nb_svm",
        "evaluate@nb_svm",
        "train@logistic",
    ]
    stages += ["compare", "analyse", "explain", "report", "register", "judge", "train@one_that_is_gone"]
    expected = ["download", "clean", "split", "tokenize", "train@nb_svm", "evaluate@nb_svm", "train@logistic"]
    files = {
        name: f"src/sentiflow/models/networks/{networks.get(model, model)}.py"
        for name in stages
        for model in [name.partition("@")[2]]
    }
    committed = {name: {"deps": [{"path": path, "md5": "0"}]} for name, path in files.items()}
    assert verify.quick(committed) == expected


def test_machines_are_alike_only_if_everything_recorded_is_equal():
    assert verify.compare_machines({"lstm": ENVIRONMENT, "gru": {}}, {"lstm": ENVIRONMENT}).alike
    assert not verify.compare_machines(None, {"lstm": ENVIRONMENT}).alike
    assert not verify.compare_machines({"gru": ENVIRONMENT}, {"lstm": ENVIRONMENT}).known
    assert not verify.compare_machines({"gru": ENVIRONMENT}, {}).trained
    other = ENVIRONMENT | {"instruction_sets": ["fma"], "libraries": {"numpy": "2.5.0"}}
    machines = verify.compare_machines({"lstm": ENVIRONMENT, "gru": ENVIRONMENT}, {"lstm": other, "gru": other})
    assert not machines.alike
    assert machines.differences == [
        "instruction_sets: recorded avx, fma, here fma",
        "libraries numpy: recorded 2.4.6, here 2.5.0",
    ]


def test_score_with_the_largest_difference_is_named():
    scores = {"accuracy_score": 0.9, "f1_score": 0.8, "log_loss": 0.3, "roc_auc_score": 0.95, "precision_score": 0.9}
    assert verify.farthest("metrics/test/lstm.json", scores, scores) == ("accuracy_score", 0)
    name, gap = verify.farthest(
        "metrics/test/lstm.json", scores, scores | {"log_loss": 0.4, "f1_score": 0.79, "precision_score": 0.1}
    )
    assert (name, gap) == ("log_loss", pytest.approx(0.1))
    assert verify.farthest("metrics/test/lstm.json", scores, {}) == ("accuracy_score", float("inf"))
    model = {"architecture": "lstm", "scores": {"train": scores, "valid": scores, "test": scores}}
    other = {"architecture": "lstm", "scores": {"train": {}, "valid": scores, "test": scores | {"accuracy_score": 0.8}}}
    name, gap = verify.farthest("metrics/comparison.json", {"models": [model]}, {"models": [other]})
    assert (name, gap) == ("lstm's test accuracy_score", pytest.approx(0.1))
    assert verify.farthest("metrics/comparison.json", {"models": [model]}, {"models": []})[1] == float("inf")


def test_packages_that_differ_from_the_lock_are_named():
    lock = (
        "dvc==0.0.1 \\\n    --hash=sha256:00\nno-such-package==1.0\nno-such-too==1.0 ; python_full_version < '3.0'\n"
        f"numpy=={verify.metadata.version('numpy')}\n# a comment\n"
    )
    assert verify.others_than_locked(lock) == [
        f"dvc==0.0.1 (installed: {verify.metadata.version('dvc')})",
        "no-such-package==1.0 (not installed)",
    ]


@pytest.mark.parametrize(
    ("machines", "expected"),
    [
        (Machines(True, []), "Compared by hash: the models were trained on this kind of processor"),
        (Machines(True, ["processor: recorded X, here Y"]), "processor: recorded X, here Y"),
        (Machines(True, [], trained=False), "Compared by hash: no model was trained."),
        (Machines(False, []), "whether they were trained on such a processor is unknown"),
    ],
)
def test_report_has_every_stage_the_kind_of_comparison_and_a_summary(machines, expected):
    page = verify.report(
        [Outcome("download", "equal"), Outcome("train@lstm", "differs", ["makes models/lstm"]), Outcome("judge", "not run")],
        machines,
        0.05,
    )
    assert expected in page
    assert page.endswith("3 stages: 1 equal, 1 differs, 1 not run.")
    assert "train@lstm  differs\n    makes models/lstm\n" in page


def committed(folder):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "-A", "-f"], [*who, "commit", "-qm", "hostile"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("link", ["data", ".dvc", ".dvc/config.local"])
def test_commit_with_a_link_that_leads_out_of_its_clone_is_refused_before_anything_is_written_there(link, tmp_path, monkeypatch):
    project, outside = tmp_path / "project", tmp_path / "outside"
    (project / link).parent.mkdir(parents=True)
    outside.mkdir()
    (project / link).symlink_to(outside / "settings" if link.endswith("local") else outside)
    monkeypatch.chdir(project)
    sha = committed(project)
    with pytest.raises(UnsafeError, match=f"a symbolic link that leads out of the project: '{link}'; nothing was run"):
        verify._clone(sha, Path(".cache/verify/hostile"))
    assert not list(outside.iterdir())


@pytest.mark.parametrize("path", ["../../outside", "/tmp/outside", ".git/hooks"])
def test_commit_whose_lock_names_an_output_outside_the_clone_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(f"stages:\n  train:\n    cmd: a\n    outs: [{{path: {path}, md5: {'0' * 32}}}]\n")
    with pytest.raises(UnsafeError, match=f"has an output outside the project: '{path}'"):
        verify._committed_lock(committed(tmp_path))
