"""The command and the stage, on a small project of three trained models."""

import importlib.util
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from publications import publication
from ruamel.yaml import YAML
from samples import configuration, reviews

from sentiflow.config import params
from sentiflow.data import cleaning, vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import explanation, networks, neural
from sentiflow.models.tf import keras
from sentiflow.registry import model_versions, publishing, store
from sentiflow.serving import explain, predict
from sentiflow.system.errors import InputError

TOP = Path(__file__).parents[3]
NETWORKS = {"nb_svm": "nb_svm", "lstm": "recurrent", "lstm_attention": "lstm_attention"}
RUN = list(NETWORKS)
SENTENCES = ["The film was GREAT, and moving!", "It was.", "dull zzyzx story | $x^2$ <b>and</b> music"]
TINY = {"length": 12, "embedding": 4, "units": 5, "minimum_count": 1}


def write_params(**changes):
    """Writes params.yaml to the working folder: the shipped one with changes under keys such as explain__reviews."""
    yaml = YAML()
    values = yaml.load((TOP / "params.yaml").read_text(encoding="utf-8"))
    for key, value in {"run": NETWORKS, "explain__sentences": SENTENCES, "explain__reviews": 15, **changes}.items():
        *sections, last = key.split("__")
        section = values
        for name in sections:
            section = section[name]
        section[last] = value
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def make_project(top, classes):
    """Writes tokens and models to a folder; the neural ones are not trained."""
    texts, labels = reviews(80, classes=classes)
    views = cleaning.clean(texts, stopwords=Stopwords("english", keep_negations=True))
    tokens_dir = top / "data/tokens"
    tokens_dir.mkdir(parents=True)
    (tokens_dir / "classes.json").write_text(json.dumps(classes))
    for view in ("text", "content"):
        (tokens_dir / f"{view}.json").write_text(vocabulary.fit(views[view], minimum_count=1))
    words = {view: vocabulary.Vocabulary.read(tokens_dir / f"{view}.json") for view in ("text", "content")}
    ids = {view: words[view].ids(views[view]) for view in words}
    for split in ("train", "valid", "test"):
        vocabulary.write_tokens(tokens_dir / f"{split}.parquet", pd.Series(texts.index), labels, ids)
    p = params.load()
    for name in RUN:
        folder = top / "models" / name
        folder.mkdir(parents=True)
        if name == "nb_svm":
            data = vocabulary.read_training_data(tokens_dir, "text")
            model, _ = networks.module(name).fit(configuration(name, classes), data, options=p.train)
        else:
            keras.utils.set_random_seed(3)
            config = configuration(name, classes, **TINY)
            model = neural.NeuralClassifier.create(config, words[config.settings.view])
        model.save(folder)


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    made = {}
    for classes in (["negative", "positive"], ["negative", "neutral", "positive"]):
        made[len(classes)] = tmp_path_factory.mktemp("project")
        make_project(made[len(classes)], classes)
    return made


@pytest.fixture(scope="module")
def client(trained, tmp_path_factory):
    """Client of a store with a version of nb_svm and no champion."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        made = store.connect()
        parent = publishing.retraining(made, "f" * 64)
        publishing.publish(made, publication(trained, folder), parent=parent)
        yield made


@pytest.fixture
def champion(client):
    model_versions.set_alias(client, model_versions.CHAMPION, "1")
    yield
    model_versions.set_alias(client, model_versions.CHAMPION, None)


@pytest.fixture(params=[2, 3], ids=["two classes", "three classes"])
def every_project(request, projects, tmp_path, monkeypatch):
    shutil.copytree(projects[request.param], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    write_params()
    return tmp_path


@pytest.fixture
def project(projects, client, tmp_path, monkeypatch):
    shutil.copytree(projects[2], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    write_params()
    return tmp_path


@pytest.fixture
def run(project, capsys):
    """Runs the command in this process and returns its output."""

    def run_it(text, model=None, out=Path("reports/explanation.png")):
        capsys.readouterr()
        explain.run(text, model, out)
        return capsys.readouterr().out

    return run_it


def command(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "sentiflow", "explain", *arguments], capture_output=True, timeout=120, check=False, **more
    )


# the command


TEXT = "A great film, and a moving story"


def predicted(capsys, text):
    """Label and probability to three digits, as from `sentiflow predict`."""
    capsys.readouterr()
    predict.run(text=text, file=None, column=None, out=None, version=None)
    lines = capsys.readouterr().out.split("\n")
    label = lines[0].split()[0]
    [probability] = [line.split()[1] for line in lines[1:] if line.split()[:1] == [label]]
    return label, f"{float(probability):.3f}"


@pytest.mark.usefixtures("champion")
def test_by_default_the_champion_is_explained_with_the_prediction_of_predict(run, capsys):
    label, probability = predicted(capsys, TEXT)
    printed = run(TEXT)
    assert printed.startswith(f"version 1 (nb_svm) predicts {label}, probability {probability}\n")
    assert "no version is champion" not in printed
    shutil.rmtree("models")  # the champion is the registered version, not the last trained model
    assert run(TEXT) == printed


@pytest.mark.usefixtures("champion")
def test_a_named_model_is_compared_with_the_champion(run, capsys):
    label, probability = predicted(capsys, TEXT)
    answer = f"the champion is version 1 (nb_svm), which predicts {label}, probability {probability}\n"
    printed = run(TEXT, "lstm_attention")
    assert printed.startswith("lstm_attention predicts ")
    assert f"\nlstm_attention is not the champion; {answer}" in printed
    assert f"\nnb_svm as trained last; {answer}" in run(TEXT, "nb_svm")


@pytest.mark.usefixtures("champion")
def test_a_truncated_text_has_the_prediction_for_the_whole_text_too(run, capsys, monkeypatch):
    monkeypatch.setattr(explanation, "MOST_WORDS", 3)
    text = "a great film " + "dull boring awful story " * 5
    label, probability = predicted(capsys, text)
    printed = run(text)
    assert not printed.startswith(f"version 1 (nb_svm) predicts {label}, probability {probability}")
    assert f"for the whole text it predicts {label}, probability {probability}, as `sentiflow predict` does\n" in printed


def test_a_named_model_is_explained_without_a_store(run, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////no/folder/mlflow.db")
    printed = run(TEXT, "nb_svm")
    assert printed.startswith("nb_svm predicts ")
    assert "\nthe champion's prediction is unknown: MLflow's store at sqlite:////no/folder/mlflow.db " in printed


def test_without_a_champion_the_best_or_first_trained_model_is_explained(run):
    write_params(run={"lstm": "recurrent", "nb_svm": "nb_svm"})
    printed = run("A great film")
    assert printed.startswith("lstm predicts ")
    assert "\nno version is champion, so this is lstm, the first in `run`\n" in printed
    Path("metrics").mkdir()
    Path("metrics/comparison.json").write_text('{"best": "nb_svm"}')
    printed = run("A great film")
    assert printed.startswith("nb_svm predicts ")
    assert "\nno version is champion, so this is nb_svm, the best on valid\n" in printed
    shutil.rmtree("models/nb_svm")  # the best model is not trained here any more
    assert run("A great film").startswith("lstm predicts ")


def test_with_a_named_model_a_missing_champion_is_reported(run):
    for name in RUN:
        printed = run("A great film", name)
        assert printed.startswith(f"{name} predicts ")
        assert "\nno version is champion yet\n" in printed


@pytest.mark.parametrize("name", RUN)
def test_the_printed_prediction_and_weights_are_those_of_the_library(run, name):
    text = "A great film, and a moving story"
    printed = run(text, name)
    model = explanation.read(Path("models") / name, Path("data/tokens"))
    [expected] = explanation.explain(model, [text], stopwords=Stopwords("english", keep_negations=True))
    assert f"{name} predicts {expected.label}, probability {expected.probability:.3f}\n" in printed
    weights = dict(re.findall(r"(\S+)\((-?[\d.]+)\)", printed))
    assert [word.strip("[]") for word in weights] == list(dict.fromkeys(expected.words))
    last = dict(zip(expected.words, expected.weights, strict=True))
    np.testing.assert_allclose(
        [float(weights[word]) for word in weights if word in last], [last[w] for w in weights if w in last], atol=6e-4
    )


def test_the_picture_is_the_only_file_written(run, project):
    before = {path for path in project.rglob("*") if path.is_file()}
    printed = run("A great film", "nb_svm", Path("pictures/mine.PNG"))
    assert "picture: pictures/mine.PNG" in printed
    assert {path for path in project.rglob("*") if path.is_file()} - before == {project / "pictures/mine.PNG"}
    assert Path("pictures/mine.PNG").read_bytes().startswith(b"\x89PNG")


def test_out_of_vocabulary_words_are_listed_once_and_up_to_a_limit(run):
    assert "out-of-vocabulary, in [brackets]: zzyzx, qwx\n" in run("the zzyzx film zzyzx qwx", "nb_svm")
    assert "out-of-vocabulary" not in run("great film", "nb_svm")
    many = " ".join("q" + letter * 3 for letter in "abcdefghijklmnop")
    assert "qjjj and 6 more\n" in run(many, "nb_svm")


def test_truncation_is_reported_with_number_and_side(run, monkeypatch):
    assert "truncated: the first 8 words; the prediction is for the other 12\n" in run("film great " * 10, "lstm_attention")
    assert "truncated" not in run("film great", "lstm_attention")
    monkeypatch.setattr(explanation, "MOST_WORDS", 5)
    assert "truncated: the last 15 words; the prediction is for the other 5\n" in run("film great " * 10, "nb_svm")


def test_a_dash_reads_the_text_from_standard_input(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"great \xff film\0 caf\xc3\xa9")))
    printed = run("-", "nb_svm")
    assert "great(" in printed
    assert "[café](" in printed


@pytest.mark.parametrize("name", ["nb_svm", "lstm_attention"])
def test_a_text_of_a_megabyte_is_explained_up_to_the_length_of_the_model(run, monkeypatch, name):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 500_000 + b" great film" * 50_000)))
    monkeypatch.setattr(explanation, "MOST_WORDS", 30)
    cut = {"nb_svm": "the last 99,971 words; the prediction is for the other 30", "lstm_attention": "the first 99,989 words"}[
        name
    ]
    printed = run("-", name)
    assert f"truncated: {cut}" in printed
    assert len(printed) < 2000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), 'received no text; expected a review, for example: sentiflow explain "A film I loved."'),
        ((" \n ",), "received no text"),
        (("<br/>", "nb_svm"), "nb_svm reads no word of this text; give another text or another model: --model"),
        (("It was.", "lstm"), "lstm reads no word of this text, of which stopwords, numbers and punctuation are removed; give"),
        (("good", "lstn"), "received --model lstn, which is not trained here; expected one of nb_svm, lstm, lstm_attention."),
        (("good", "gru"), "add it to `run` in params.yaml and run: sentiflow repro"),
        (("good", "../models/lstm"), "which is not trained here"),
        (("good", "nb_svm", Path("picture.jpg")), "received --out picture.jpg; expected a name that ends in .png"),
    ],
)
def test_what_cannot_be_explained_is_an_error_with_advice(run, arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        run(*arguments)
    assert not Path("reports").exists()


def test_without_a_trained_model_the_error_tells_how_to_train_one(run):
    shutil.rmtree("models")
    with pytest.raises(
        InputError, match=r"no model is trained yet, expected nb_svm or lstm or lstm_attention in models; .*sentiflow repro"
    ):
        run("A great film")


def test_an_error_is_one_line_with_status_1_and_without_traceback(project):
    for arguments in (["good", "--model", "\x1b[2Jx"], ["good", "--model", "nb_svm", "--out", "params.yaml/x.png"]):
        ended = command(*arguments)
        assert ended.returncode == 1
        assert re.fullmatch(rb"error: [^\n\x1b]+\n", ended.stderr)
        assert ended.stdout == b""


def test_output_in_ascii_is_escaped_and_has_no_colours(project):
    ended = command("great \u4e2d\u6587 film", "--model", "nb_svm", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert ended.returncode == 0, ended.stderr
    assert b"[\\u4e2d](" in ended.stdout
    assert b"\x1b" not in ended.stdout


def on_terminal(*arguments, **environment):
    """Output of the command to a terminal."""
    main, other = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sentiflow", "explain", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=other,
        stderr=subprocess.PIPE,
        env={key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"} | environment,
    ) as started:
        os.close(other)
        written = b""
        try:
            while part := os.read(main, 65536):
                written += part
        except OSError:  # on Linux: the other end was closed
            pass
        os.close(main)
        assert started.wait(60) == 0, started.stderr.read()
    return written.decode()


def test_a_terminal_gets_colours_and_the_text_cannot_add_any(project):
    arguments = ("great \x1b[31m film \u202e", "--model", "nb_svm")
    coloured = on_terminal(*arguments)
    assert "\x1b[48;5;" in coloured
    assert "blue: for the answer, orange: against it; strongest shade: 2 or more" in coloured
    assert set(re.findall(r"\x1b\[[^m]*m", coloured)) <= {f"\x1b[48;5;{i}m" for i in range(256)} | {"\x1b[38;5;16m", "\x1b[0m"}
    assert "\u202e" not in coloured


@pytest.mark.parametrize("wish", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours_gets_none(run, monkeypatch, wish):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in wish.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert ("\x1b" in run("great film", "nb_svm")) == (not wish)


# the stage


def answers(right):
    """Predictions on test that are correct on the given rows only."""
    classes = json.loads(Path("data/tokens/classes.json").read_text())
    texts, labels = reviews(80, classes=classes)
    label = [classes[place] for place in labels]
    wrong = [classes[(place + 1) % len(classes)] for place in labels]
    predicted = [label[row] if row in right else wrong[row] for row in range(80)]
    return pd.DataFrame({"row": range(80), "label": label, "predicted": predicted}), texts, classes


def run_stage(out="reports/explanations", names=None, right=range(80)):
    table, texts, _ = answers(right)
    names = names or params.load().run
    for name in names:
        Path("data/predictions", name).mkdir(parents=True, exist_ok=True)
        table.to_parquet(f"data/predictions/{name}/test.parquet", index=False)
    pd.DataFrame({"row": range(80), "text": texts}).to_parquet("data/reviews.parquet", index=False)
    Path("metrics").mkdir(exist_ok=True)
    Path("metrics/comparison.json").write_text(json.dumps({"models": [{"architecture": name} for name in names]}))
    spec = importlib.util.spec_from_file_location("explain_stage", TOP / "stages" / "explain.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folders = (Path("data/reviews.parquet"), Path("models"), Path("data/tokens"), Path("data/predictions"))
    script.main(*folders, Path("metrics/comparison.json"), Path(out))
    return json.loads(Path(out, "explanations.json").read_text(encoding="utf-8"))


def test_the_stage_explains_every_text_with_every_model(every_project):
    found = run_stage()
    assert [(each["architecture"], each["sentence"]) for each in found["explanations"]] == [
        (name, sentence) for name in RUN for sentence in SENTENCES
    ]
    figures = {f"{name}_{number}.png" for name in RUN for number in (1, 2, 3)}
    written = {path.name for path in Path("reports/explanations").iterdir()}
    assert written == figures | {"explanations.json", "explanations.md"}
    page = Path("reports/explanations/explanations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\((\w+\.png)\)", page)) == figures


def test_the_stage_lists_the_best_model_first(project):
    best_first = ["lstm_attention", "nb_svm", "lstm"]
    found = run_stage(names=best_first)
    assert list(dict.fromkeys(each["architecture"] for each in found["explanations"])) == best_first
    page = Path("reports/explanations/explanations.md").read_text(encoding="utf-8")
    assert re.findall(r"\((\w+)_1\.png\)", page) == best_first


def test_without_sentences_the_stage_shows_a_correctly_predicted_review_per_class(every_project):
    write_params(explain__sentences=None)
    table, texts, classes = answers(())
    words = texts.str.split().str.len()
    right = [row for row in range(80) if words[row] < 15]
    shown = list(dict.fromkeys(each["sentence"] for each in run_stage(right=right)["explanations"]))
    assert len(shown) == len(classes)
    for text, name in zip(shown, classes, strict=True):
        candidates = [row for row in right if table["label"][row] == name]
        assert len(text.split()) == max(words[row] for row in candidates)  # the closest to EXAMPLE_WORDS
        assert text in {texts[row] for row in candidates}
    nothing_is_right = {each["sentence"] for each in run_stage("other", right=())["explanations"]}
    assert len(nothing_is_right) == len(classes)


def test_the_stage_uses_attention_if_available_and_leave_one_out_otherwise(every_project):
    for each in run_stage()["explanations"]:
        assert each["method"] == ("attention" if each["architecture"] == "lstm_attention" else "leave one out")
        assert len(each["words"]) == len(each["weights"]) == len(each["known"])
        if each["method"] == "attention":
            assert min(each["weights"]) >= 0
            assert sum(each["weights"]) == pytest.approx(1, abs=1e-4)
        assert 0 < each["probability"] <= 1
    [nothing_read] = [each for each in run_stage()["explanations"] if not each["words"]]
    assert (nothing_read["architecture"], nothing_read["sentence"]) == ("lstm", "It was.")


def test_the_stage_runs_the_deletion_check_for_models_with_attention(every_project):
    [checked] = run_stage()["deletion"]
    assert (checked["architecture"], checked["reviews"], checked["deleted"]) == ("lstm_attention", 15, 0.1)
    assert checked["difference_low"] <= checked["difference"] <= checked["difference_high"]
    assert {*checked["attended"], *checked["random"]} == {"drop", "flipped"}


def test_the_stage_writes_the_same_bytes_again(project):
    run_stage("one")
    run_stage("other")
    names = sorted(path.name for path in Path("one").iterdir())
    assert names == sorted(path.name for path in Path("other").iterdir())
    for name in names:
        assert Path("one", name).read_bytes() == Path("other", name).read_bytes(), name


def test_without_attention_there_is_no_deletion_check(project):
    write_params(run={"nb_svm": "nb_svm"})
    assert run_stage()["deletion"] == []
    page = Path("reports/explanations/explanations.md").read_text(encoding="utf-8")
    assert "No model of this run has attention" in page


def test_a_failing_stage_keeps_the_previous_explanations(project):
    run_stage()
    before = Path("reports/explanations/explanations.json").read_bytes()
    shutil.rmtree("models/lstm")
    with pytest.raises(InputError, match="no trained model in models/lstm"):
        run_stage()
    assert Path("reports/explanations/explanations.json").read_bytes() == before
