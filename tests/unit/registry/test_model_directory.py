"""Hostile directories are made from honest ones, which are logged to MLflow's own SQLite store and downloaded from it."""

import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import mlflow
import numpy as np
import pytest
from ruamel.yaml import YAML
from samples import configuration

from sentiflow.data import vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import sentiment_model
from sentiflow.models.neural import NeuralClassifier
from sentiflow.registry import model_directory, publishing
from sentiflow.registry.untrusted import reading
from sentiflow.system import environment
from sentiflow.system.errors import InputError

CLASSES = ("negative", "positive")
TINY = {"length": 12, "embedding": 4, "units": 5}
CONFIG, VOCABULARY = "artifacts/bundle/model/config.json", "artifacts/bundle/vocabulary.json"
NPZ, H5 = "artifacts/bundle/model/weights.npz", "artifacts/bundle/model/model.weights.h5"


@pytest.fixture(scope="module")
def model_dirs(trained, tmp_path_factory):
    """A trained linear model and a neural one with fresh weights, as `dvc repro train` leaves them."""
    linear_dir, tokens_dir = trained[:2]
    folder = tmp_path_factory.mktemp("model_dirs")
    words = vocabulary.Vocabulary.read(tokens_dir / "text.json")
    shutil.copytree(linear_dir, folder / "linear")
    (folder / "neural").mkdir()
    neural = NeuralClassifier.create(configuration("lstm_small", CLASSES, **TINY), words)
    neural.save(folder / "neural")
    for kind in ("linear", "neural"):
        (folder / kind / "environment.json").write_text(json.dumps(environment.describe(gpus=[], threads=1)))
    return folder


@pytest.fixture(scope="module")
def logged(model_dirs, trained, tmp_path_factory):
    """The URI of each model in the store, and the store's folder."""
    store = tmp_path_factory.mktemp("store")
    uris = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store)
        mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
        mlflow.set_registry_uri(f"sqlite:///{store}/mlflow.db")
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("directories", artifact_location=str(store / "mlartifacts")))
        for kind in ("linear", "neural"):
            publication = SimpleNamespace(
                architecture=kind,
                classes=CLASSES,
                model_dir=model_dirs / kind,
                tokens_dir=trained[1],
                stopwords=Stopwords("english", keep_negations=True),
            )
            with mlflow.start_run():
                uris[kind] = publishing._log_model(publication).model_uri
    return uris


@pytest.fixture(scope="module")
def honest(logged, tmp_path_factory):
    """Each model directory as a download gives it."""
    folder = tmp_path_factory.mktemp("honest")
    return {
        kind: Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder / kind)))
        for kind, uri in logged.items()
    }


@pytest.fixture
def linear(honest, tmp_path):
    return Path(shutil.copytree(honest["linear"], tmp_path / "linear"))


@pytest.fixture
def neural(honest, tmp_path):
    return Path(shutil.copytree(honest["neural"], tmp_path / "neural"))


def change_yaml(file, change):
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(file.read_text())
    change(values)
    yaml.dump(values, file)


def change_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_flavor(folder, **changes):
    change_yaml(folder / "MLmodel", lambda values: values["flavors"]["python_function"].update(changes))


# ---- honest directories


@pytest.mark.parametrize("kind", ["linear", "neural"])
def test_a_directory_that_was_registered_passes(honest, kind):
    model_directory.check(honest[kind])
    assert model_directory.check_bundle(honest[kind] / "artifacts/bundle") == CLASSES


@pytest.mark.parametrize("kind", ["linear", "neural"])
def test_digest_is_the_same_before_and_after_a_download_and_with_mlflows_note_of_it(logged, honest, kind, tmp_path):
    stored = Path(mlflow.get_logged_model(logged[kind].removeprefix("models:/")).artifact_location)
    version = mlflow.register_model(logged[kind], f"digest_{kind}")
    fetched = Path(
        mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{version.name}/{version.version}", dst_path=str(tmp_path))
    )
    assert (fetched / "registered_model_meta").exists()
    model_directory.check(fetched)
    assert model_directory.digest(stored) == model_directory.digest(honest[kind]) == model_directory.digest(fetched)


@pytest.mark.parametrize("asked_for", ["/1", "@of_mine"])
def test_directory_that_mlflow_loaded_in_place_is_as_good_as_before(logged, honest, asked_for):
    stored = Path(mlflow.get_logged_model(logged["linear"].removeprefix("models:/")).artifact_location)
    version = mlflow.register_model(logged["linear"], "loaded_in_place")
    mlflow.MlflowClient().set_registered_model_alias(version.name, "of_mine", str(version.version))
    mlflow.pyfunc.load_model(f"models:/{version.name}{asked_for}")
    assert (stored / "registered_model_meta").exists()  # MLflow wrote into the store
    model_directory.check(stored)
    assert model_directory.digest(stored) == model_directory.digest(honest["linear"])


def test_digest_tells_every_change(linear):
    known = {model_directory.digest(linear)}
    (linear / "code/sentiflow/system/errors.py").write_bytes((linear / "code/sentiflow/system/errors.py").read_bytes() + b"\n")
    known.add(model_directory.digest(linear))
    (linear / "code/sentiflow/system/errors.py").rename(linear / "code/sentiflow/mistakes.py")
    known.add(model_directory.digest(linear))
    (linear / "code/sentiflow/registered_model_meta").write_text("")  # does not count at the top alone
    known.add(model_directory.digest(linear))
    assert len(known) == 4


def test_looking_at_a_directory_loads_neither_tensorflow_nor_mlflow(honest):
    code = (
        "import sys; from pathlib import Path; from sentiflow.registry import model_directory;"
        "[model_directory.check(Path(folder)) for folder in sys.argv[1:]];"
        "print({'tensorflow', 'keras', 'mlflow'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code, *map(str, honest.values())], check=True, capture_output=True, text=True)
    assert loaded.stdout.strip() == "set()"


def test_no_pickle_is_loaded_between_opening_a_directory_and_its_answer(honest):
    code = (
        "import pickle, sys; from pathlib import Path; from sentiflow.models import neural, sentiment_model\n"
        "from sentiflow.registry import model_directory\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(args) if event == 'pickle.find_class' else None)\n"
        "for folder in map(Path, sys.argv[1:]):\n"
        "    model_directory.check(folder)\n"
        "    assert len(sentiment_model.SentimentModel.load(folder / 'artifacts/bundle').predict(['a great film', ''])) == 2\n"
        "print(len(seen))\n"
        "pickle.loads(pickle.dumps(Path('x')))\n"
        "print(len(seen) > 0)\n"
    )
    loaded = subprocess.run([sys.executable, "-c", code, *map(str, honest.values())], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == ["0", "True"]


# ---- directories that would run code


class Planted:
    """Unpickled, it leaves a marker."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def plant_loader_module(folder, marker):
    (folder / "code/planted.py").write_text(f"open({str(marker)!r}, 'w')\n")
    change_flavor(folder, loader_module="planted")


def plant_code(folder, marker):
    # found before the installed module of that name, since MLflow puts `code` first
    (folder / "code/planted.py").write_text(f"open({str(marker)!r}, 'w')\n")
    (folder / "code/tqdm.py").write_text("import planted\n")
    (folder / "registered_model.py").write_text("import planted\n")


def plant_pickle(folder, marker):
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Planted(marker)))
    change_flavor(folder, python_model="python_model.pkl")
    change_yaml(folder / "MLmodel", lambda values: values["flavors"]["python_function"].pop("model_code_path"))


PLANTS = {
    "loader_module": (plant_loader_module, "code/planted.py"),
    "code": (plant_code, "code/"),
    "python_model": (plant_pickle, "python_model.pkl"),
}


def test_directories_that_run_code_in_mlflow_are_refused_and_run_nothing(honest, tmp_path):
    folders, markers = {}, {}
    for kind, (plant, named) in PLANTS.items():
        folders[kind] = Path(shutil.copytree(honest["linear"], tmp_path / kind))
        markers[kind] = tmp_path / f"{kind}.ran"
        plant(folders[kind], markers[kind])
        with pytest.raises(InputError, match=named):
            model_directory.check(folders[kind])
        assert not markers[kind].exists()
    # The plants are real: MLflow itself, where pickle is allowed, as it is by default, runs each of them.
    code = (
        "import sys, mlflow\n"
        "for folder in sys.argv[1:]:\n"
        "    try:\n"
        "        mlflow.pyfunc.load_model(folder)\n"
        "    except Exception as error:\n"
        "        print(folder, error)\n"
        "    for name in [name for name in sys.modules if name == 'planted']:\n"
        "        del sys.modules[name]\n"
    )
    command = [sys.executable, "-c", code, *map(str, folders.values())]
    allowed = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=allowed)
    assert {kind: marker.exists() for kind, marker in markers.items()} == dict.fromkeys(PLANTS, True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda flavor: flavor.update(loader_module="os"), r"flavors\.python_function\.loader_module"),
        (lambda flavor: flavor.update(code="artifacts"), r"flavors\.python_function\.code"),
        (lambda flavor: flavor.update(code=""), r"flavors\.python_function\.code"),
        (lambda flavor: flavor.update(data="../../other"), r"'flavors\.python_function\.data', which is not expected"),
        (lambda flavor: flavor.update(python_model="x.pkl"), r"'flavors\.python_function\.python_model', which is not expected"),
        (lambda flavor: flavor.update(predict_fn="__reduce__"), r"predict_fn', which is not expected"),
        (lambda flavor: flavor.update(model_config={"a": 1}), r"model_config', which is not expected"),
        (lambda flavor: flavor.update(model_code_path="artifacts/evil.py"), r"model_code_path"),
        (lambda flavor: flavor["artifacts"]["bundle"].update(path="/etc"), r"artifacts\.bundle\.path"),
        (
            lambda flavor: flavor["artifacts"].update(more={"path": "../x", "uri": "x"}),
            r"artifacts\.more', which is not expected",
        ),
        (lambda flavor: flavor["env"].update(conda="/tmp/conda.yaml"), r"env\.conda"),
        (lambda flavor: flavor.pop("model_code_path"), r"lacks the key 'flavors\.python_function\.model_code_path'"),
    ],
)
def test_mlmodel_that_makes_mlflow_do_something_else_is_refused(linear, change, reason):
    change_yaml(linear / "MLmodel", lambda values: change(values["flavors"]["python_function"]))
    with pytest.raises(InputError, match=rf"MLmodel .*{reason}"):
        model_directory.check(linear)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"metadata": {"mlflow.model_is_external": True}}, "metadata', which is not expected"),
        ({"env_vars": ["PATH"]}, "env_vars', which is not expected"),
        ({"resources": {"api": "1"}}, "resources', which is not expected"),
        ({"auth_policy": {}}, "auth_policy', which is not expected"),
        ({"_load": "x"}, "_load', which is not expected"),
        ({"is_signature_from_type_hint": True}, "is_signature_from_type_hint"),
        (
            {"saved_input_example_info": {"artifact_path": "../x", "serving_input_path": "x", "type": "json_object"}},
            "artifact_path",
        ),
        ({"run_id": "../../x"}, "run_id"),
        ({"signature": {"inputs": "[", "outputs": "[]", "params": None}}, "is not valid JSON"),
        ({"signature": {"inputs": "[]", "outputs": "[]", "params": None}}, "a signature other than"),
    ],
)
def test_mlmodel_with_other_keys_is_refused(linear, changes, reason):
    change_yaml(linear / "MLmodel", lambda values: values.update(changes))
    with pytest.raises(InputError, match=rf"MLmodel .*{reason}"):
        model_directory.check(linear)


def test_mlmodel_with_another_flavor_is_refused(linear):
    change_yaml(linear / "MLmodel", lambda values: values["flavors"].update(sklearn={"pickled_model": "model.pkl"}))
    with pytest.raises(InputError, match=r"MLmodel has the key 'flavors\.sklearn', which is not expected"):
        model_directory.check(linear)


def test_signature_with_other_classes_than_the_model_is_refused(linear):
    text = (linear / "MLmodel").read_text()
    (linear / "MLmodel").write_text(text.replace("p_negative", "p_positivo"))
    with pytest.raises(InputError, match="MLmodel has a signature with the columns"):
        model_directory.check(linear)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "anchor or alias"),
        ("[" * 15_000, "nested more than 8 deep"),
        ("a: !!python/object/apply:os.system [ls]\n", "YAML tag"),
        ("a: 1\na: 2\n", "is not valid YAML"),
        ("a: {<<: {b: 1}}\n", "anchor or alias"),
        ("- a\n", "has .* as the whole"),
        ("a: \x01", "is not valid YAML"),
        ("", "the whole"),
        ("x: 1\n" * 600, "more than 1000 YAML events"),
        ("x" * 8_000_001, "at most 8000000"),
    ],
)
@pytest.mark.parametrize("name", ["MLmodel", "conda.yaml"])
def test_yaml_that_is_no_plain_section_is_refused(linear, name, text, reason):
    (linear / name).write_text(text)
    expected = reason if name == "MLmodel" else reason.replace("8000000", "16000")
    with pytest.raises(InputError, match=rf"{name} .*{expected}"):
        model_directory.check(linear)


@pytest.mark.parametrize(
    "line",
    [
        "--find-links http://evil.example/simple", "-r other.txt", "-e .", "git+https://evil.example/x", "./wheel.whl", "numpy",
        "numpy>=1", "numpy==1; python_version>'3'", "numpy==1 --hash=sha256:0", "x @ http://evil.example/x.whl",
        "surely-no-such-package==1.0", "../x==1", "",
    ],
)  # fmt: skip
def test_requirements_are_pins_of_known_packages_alone(linear, line):
    file = linear / "requirements.txt"
    file.write_text(f"{file.read_text()}\n{line}\n")
    with pytest.raises(InputError, match=r"requirements\.txt (has the line|requires) "):
        model_directory.check(linear)


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("conda.yaml", "conda-forge", "http://evil.example", "channels"),
        ("conda.yaml", "- pip:", "- evil\n- pip:", "dependencies"),
        ("conda.yaml", "- numpy==", "- numpy @ http://evil.example/", "pip"),
        ("conda.yaml", "- tqdm==", "- tqdm==9", "other packages than requirements.txt"),
        ("python_env.yaml", "-r requirements.txt", "-r /tmp/other.txt", "dependencies"),
        ("python_env.yaml", "- wheel==", "- evil==", "build_dependencies"),
        ("python_env.yaml", "python: ", "more: 1\npython: ", "more', which is not expected"),
    ],
)
def test_environment_files_name_no_other_place_or_package(linear, name, old, new, reason):
    text = (linear / name).read_text()
    assert old in text
    (linear / name).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=rf"{name} .*{reason}"):
        model_directory.check(linear)


# ---- the list of files


@pytest.mark.parametrize(
    "path",
    [
        "python_model.pkl", "model.keras", "code/numpy.py", "code/sentiflow/x.pyc", "code/sentiflow/x.so", "code/sentiflow/x.pth",
        "code/sentiflow/.hidden.py", "code/sentiflow/x.pkl", "artifacts/other.json", "artifacts/bundle/model/x.npz",
        "artifacts/bundle/model/model.weights.h5", ".env", "code/sentiflow/data/nltk_data/corpora/stopwords/x.zip",
        "a\nb", "x\udcff",
    ],
)  # fmt: skip
def test_a_file_that_no_registered_model_has_is_refused(linear, path):
    (linear / path).write_bytes(b"")
    with pytest.raises(InputError, match=r"is not a file of a registered model|must have either") as refused:
        model_directory.check(linear)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "path", ["MLmodel", "requirements.txt", "code/sentiflow/__init__.py", CONFIG, "artifacts/bundle/probe.json", VOCABULARY]
)
def test_a_missing_file_is_named(linear, path):
    (linear / path).unlink()
    with pytest.raises(InputError, match=f"{path} is missing"):
        model_directory.check(linear)


def test_a_directory_without_weights_or_with_those_of_the_other_kind_is_refused(linear, neural):
    shutil.copy(neural / H5, linear / H5)
    (linear / NPZ).unlink()
    with pytest.raises(InputError, match="is not the file of a nb_svm's weights"):
        model_directory.check(linear)
    (linear / H5).unlink()
    with pytest.raises(InputError, match="got neither"):
        model_directory.check(linear)


@pytest.mark.parametrize("path", ["MLmodel", CONFIG, NPZ, "code/sentiflow/system/errors.py", "artifacts/bundle", "code"])
def test_a_link_is_refused_even_to_the_same_content(linear, path, tmp_path):
    (linear / path).rename(tmp_path / "moved")
    (linear / path).symlink_to(tmp_path / "moved")
    with pytest.raises(InputError, match=rf"{path} is not a regular file \(mode l"):
        model_directory.check(linear)
    with pytest.raises(InputError, match=rf"{path} is not a regular file"):
        model_directory.digest(linear)


def test_a_fifo_is_refused_and_not_waited_for(linear):
    (linear / "MLmodel").unlink()
    os.mkfifo(linear / "MLmodel")
    with pytest.raises(InputError, match=r"MLmodel is not a regular file \(mode p"):
        model_directory.check(linear)


@pytest.mark.parametrize("path", ["__pycache__", "code/evil", "code/sentiflow/.git", "artifacts/bundle/model/more"])
def test_a_folder_that_no_registered_model_has_is_refused(linear, path):
    (linear / path).mkdir()
    with pytest.raises(InputError, match=f"{path} is not a folder of a registered model"):
        model_directory.check(linear)


def test_endless_files_and_depth_are_refused(linear, tmp_path):
    many = linear / "code/sentiflow/many"
    many.mkdir()
    for number in range(reading.MOST_ENTRIES):
        (many / f"m{number}.py").touch()
    with pytest.raises(InputError, match="more than 1000 files"):
        model_directory.check(linear)
    shutil.rmtree(many)
    (linear / "code/sentiflow" / "/".join("abcdefgh")).mkdir(parents=True)
    with pytest.raises(InputError, match="nested more than 8 deep"):
        model_directory.check(linear)


@pytest.mark.parametrize("path", ["MLmodel", "requirements.txt", "code/sentiflow/system/errors.py", CONFIG, VOCABULARY, NPZ])
def test_a_file_larger_than_an_honest_one_can_be_is_not_read(linear, path):
    with (linear / path).open("r+b") as opened:
        opened.truncate(2_000_000_000)  # takes no room on the disk
    with pytest.raises(InputError, match=f"{path} has 2000000000 bytes, expected at most"):
        model_directory.check(linear)


def test_no_folder_at_all_is_an_error_that_says_so(tmp_path):
    with pytest.raises(InputError, match=r"nowhere is not a folder; expected a model directory"):
        model_directory.check(tmp_path / "nowhere")


# ---- JSON


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network": "os"}, "has the network 'os', which is unknown"),
        ({"network": "_linear"}, "which is unknown"),
        ({"network": []}, "network"),
        ({"model": "../lstm"}, "model"),
        ({"classes": ["a"]}, "classes"),
        ({"classes": ["a", "a"]}, "distinct names"),
        ({"classes": ["a", "\x1b[2J"]}, "without line breaks and invisible characters"),
        ({"classes": ["a", "\ud800"]}, "classes"),
        ({"classes": ["a", ""]}, "classes"),
        ({"classes": [f"c{i}" for i in range(10_001)]}, "classes"),
        ({"classes": "ab"}, "classes"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 1e400}, "is not a number"),
        ({"temperature": 11.0}, "temperature"),
        ({"loader": "x"}, "loader', which is not expected"),
        ({"settings": {}}, "lacks the key"),
        ({"settings": []}, "settings"),
    ],
)
def test_config_that_describes_no_model_of_ours_is_refused(linear, changes, reason):
    change_json(linear / CONFIG, **changes)
    with pytest.raises(InputError, match=rf"config\.json .*{reason}"):
        model_directory.check(linear)


@pytest.mark.parametrize("name", [CONFIG, "artifacts/bundle/cleaning.json", "artifacts/bundle/probe.json", "input_example.json"])
@pytest.mark.parametrize("text", ["[" * 900, '{"a":' * 150, "", "{", "1" * 900, "nul", "\ufeff{}", '"' + '\\"' * 450 + "\\\n"])
def test_json_that_is_none_or_endlessly_nested_is_refused(linear, name, text):
    (linear / name).write_text(text)
    with pytest.raises(InputError, match=rf"{Path(name).name} (is|has) "):
        model_directory.check(linear)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"view": "content"}, "but model/config.json 'text'"),
        ({"view": "../text"}, "view"),
        ({"keep_negations": "yes"}, "keep_negations"),
        ({"language": "klingon"}, "language"),
        ({"language": "../english"}, "language"),
        ({"more": 1}, "more', which is not expected"),
    ],
)
def test_cleaning_that_the_model_does_not_read_is_refused(linear, changes, reason):
    change_json(linear / "artifacts/bundle/cleaning.json", **changes)
    with pytest.raises(InputError, match=rf"cleaning\.json .*{reason}"):
        model_directory.check(linear)


@pytest.mark.parametrize(
    "changes",
    [
        {"texts": []},
        {"texts": ["a", "b"], "probabilities": [[0.5, 0.5]]},
        {"texts": ["a"], "probabilities": [[0.5, 0.25, 0.25]]},
        {"texts": ["a"], "probabilities": [[0.5, 0.9]]},
        {"texts": ["a"], "probabilities": [[float("nan"), 1.0]]},
        {"texts": ["\ud800"], "probabilities": [[0.5, 0.5]]},
        {"more": 1},
    ],
)
def test_probe_that_no_model_answered_is_refused(linear, changes):
    change_json(linear / "artifacts/bundle/probe.json", **changes)
    with pytest.raises(InputError, match=r"probe\.json "):
        model_directory.check(linear)


def test_a_bundle_from_before_languages_and_a_requirement_of_that_time_are_accepted(linear):
    cleaning_file = linear / "artifacts/bundle/cleaning.json"
    cleaning = json.loads(cleaning_file.read_text())
    del cleaning["language"]
    cleaning_file.write_text(json.dumps(cleaning))
    for name in ("requirements.txt", "conda.yaml"):
        text = (linear / name).read_text()
        assert "ftfy==" in text
        assert "regex==" in text
        (linear / name).write_text(text.replace("numpy==", f"nltk==3.10.4\n{'' if name.endswith('txt') else '  - '}numpy==", 1))
    model_directory.check(linear)


def change_vocabulary(file, words, *, count=3):
    saved = json.loads(file.read_text())
    saved["config"]["word_counts"] = json.dumps(dict.fromkeys(words, count))
    saved["config"]["word_index"] = json.dumps({word: number for number, word in enumerate(["<unk>", *words], start=1)})
    file.write_text(json.dumps(saved))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: file.write_text("[" + "[]," * 5_000_000), "more than 10000 brackets"),
        (lambda file: file.write_text("[" * 9_000), "is not a tokenizer"),
        (lambda file: file.write_text('{"config": {"word_counts": ' + json.dumps("[" * 9_000) + "}}"), "is not a tokenizer"),
        (lambda file: file.write_bytes(b"\xff\xfe"), "is not a tokenizer"),
        (lambda file: change_vocabulary(file, ["good", ""]), "a word that is empty or longer"),
        (lambda file: change_vocabulary(file, ["good", "\ud800"]), "is not a tokenizer"),
        (lambda file: change_vocabulary(file, ["good"], count=-1), "integers >= 0"),
        (lambda file: change_vocabulary(file, ["good"], count=0.5), "integers >= 0"),
        (lambda file: change_vocabulary(file, ["good"], count=10**40), "integers >= 0"),
        (lambda file: change_vocabulary(file, ["good"], count="3"), "integers >= 0"),
    ],
)
def test_vocabulary_that_is_none_is_refused(linear, change, reason):
    change(linear / VOCABULARY)
    with pytest.raises(InputError, match=rf"vocabulary\.json .*{reason}"):
        model_directory.check(linear)


# ---- weights of a linear model


def npy(array):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0))
    return buffer.getvalue()


def header(descr, shape):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def members(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(file, content, *, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def with_array(name, change):
    def plant(file):
        content = members(file)
        content[f"{name}.npy"] = npy(change(np.load(io.BytesIO(content[f"{name}.npy"]))))
        write_members(file, content)

    return plant


def with_member(name, data):
    return lambda file: write_members(file, members(file) | {name: data})


def compressed(file):
    write_members(file, members(file), compression=zipfile.ZIP_DEFLATED)


def twice(file):
    content = members(file)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("bias.npy", content["bias.npy"])


def encrypted(file):
    data = bytearray(file.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1
    file.write_bytes(data)


def many_members(file):
    write_members(file, members(file) | {f"m{number}": b"" for number in range(5_000)})


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (compressed, "compressed"),
        (encrypted, "encrypted"),
        (twice, "and optionally idf"),
        (many_members, "not an archive written by NumPy"),
        (with_member("evil.npy", b""), "and optionally idf"),
        (with_member("../evil.npy", b""), "and optionally idf"),
        (with_member("bias.npy", pickle.dumps([1])), "truncated or corrupt"),
        (with_member("bias.npy", header("|O", (1,)) + pickle.dumps([1])), "of type object"),
        (with_member("bias.npy", header("<f8", (10**12,))), "does not match its size"),
        (with_member("bias.npy", header("<f8", (-1,)) + bytes(8)), "does not match its size|truncated"),
        (with_member("bias.npy", header("<f8", ()) + bytes(8)), "does not match its size"),
        (with_member("bias.npy", b"\x93NUMPY\x01\x00\x2c\x01" + b"(" * 300), "not an archive written by NumPy"),
        (with_member("bias.npy", b"\x93NUMPY\x02\x00" + bytes(200)), "version of NumPy's format other than"),
        (with_array("bias", lambda bias: bias.astype("complex64")), "of type complex64"),
        (with_array("bias", lambda bias: np.zeros(3)), "has bias of shape"),
        (with_array("bias", lambda bias: bias * np.nan), "not finite numbers"),
        (with_array("weights", lambda weights: weights[:, 1:]), "has weights of shape"),
        (with_array("weights", lambda weights: weights.T), "has weights of shape"),
        (with_array("weights", lambda weights: weights + np.float32(np.inf)), "not finite numbers"),
        (with_array("grams_2", lambda grams: grams[::-1]), "not increasing from 0"),
        (with_array("grams_1", lambda grams: grams - 10), "not increasing from 0"),
        (with_array("grams_1", lambda grams: grams.astype("float64")), "of type float64"),
        (with_array("grams_1", lambda grams: grams[:, None]), "has grams_1 of shape"),
        (lambda file: file.write_bytes(b""), "is truncated"),
        (lambda file: file.write_bytes(file.read_bytes()[:-30]), "is truncated"),
        (lambda file: file.write_bytes(pickle.dumps(Planted("never"))), "is truncated"),
    ],
)  # fmt: skip
def test_linear_weights_that_are_no_plain_arrays_are_refused(linear, plant, reason):
    plant(linear / NPZ)
    with pytest.raises(InputError, match=rf"weights\.npz .*({reason})"):
        model_directory.check(linear)


# ---- weights of a neural model


def with_h5(change):
    def plant(file):
        with h5py.File(file, "r+") as opened:
            change(opened)

    return plant


KERNEL = "layers/lstm/cell/vars/0"


def replaced(**how):
    def change(opened):
        array = opened[KERNEL][()]
        del opened[KERNEL]
        opened.create_dataset(KERNEL, **({"data": array} | how))

    return with_h5(change)


def late_allocation(opened):
    del opened[KERNEL]
    opened.create_dataset(KERNEL, shape=(200_000, 200_000), dtype="float32")  # 160 GB of zeros in a few bytes


def external(opened):
    del opened[KERNEL]
    opened.create_dataset(KERNEL, shape=(4, 20), dtype="float32", external=[("/etc/passwd", 0, 320)])


def virtual(opened):
    del opened[KERNEL]
    layout = h5py.VirtualLayout((4, 20), "float32")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (4, 20))
    opened.create_virtual_dataset(KERNEL, layout)


def linked(link):
    def change(opened):
        del opened[KERNEL]
        opened[KERNEL] = link

    return change


def hard_link(opened):
    opened["layers/lstm/again"] = opened["layers"]


def deep(opened):
    opened.create_group("/".join("abcdefghijklmn"))


def many(opened):
    for number in range(1_100):
        opened.create_group(f"g{number}")


def attribute(name, value):
    def change(opened):
        opened["layers/lstm/cell/vars"].attrs[name] = value

    return change


def array_attribute(opened):
    opened[KERNEL].attrs["dtype"] = "bfloat16"


def not_finite(opened):
    opened[KERNEL][0, 0] = np.nan


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (with_h5(late_allocation), "does not match its size"),
        (with_h5(external), "in another file"),
        (with_h5(virtual), "virtual"),
        (with_h5(linked(h5py.SoftLink("/vars"))), "link"),
        (with_h5(linked(h5py.ExternalLink("/etc/other.h5", "/x"))), "link"),
        (with_h5(hard_link), "two names"),
        (with_h5(deep), "deep"),
        (with_h5(many), "more than 1000"),
        (with_h5(attribute("evil", "x")), "attributes"),
        (with_h5(attribute("name", np.arange(3))), "not text"),
        (with_h5(array_attribute), "with attributes"),
        (with_h5(not_finite), "not finite numbers"),
        (replaced(compression="gzip"), "compressed"),
        (replaced(chunks=(1, 1)), "compressed"),
        (replaced(data=np.zeros((2, 2), "complex64")), "whose type is not a number"),
        (replaced(data=["a", "b"]), "whose type is not a number"),
        (replaced(data=None, shape=(3,), dtype=h5py.ref_dtype), "whose type is not a number"),
        (replaced(data=np.zeros(2, [("a", "f4")])), "whose type is not a number"),
        (replaced(data=np.zeros((2, 2), ">f4")), "whose type is not a number"),
        (replaced(data=np.zeros((1,) * 6, "f4")), "does not match its size"),
        (with_h5(linked(np.dtype("f4"))), "neither a group nor an array"),
        (lambda file: file.write_bytes(b""), "not an HDF5 file"),
        (lambda file: file.write_bytes(b"PK" + file.read_bytes()), "not an HDF5 file"),
        (lambda file: file.write_bytes(bytes(512) + file.read_bytes()), "not an HDF5 file"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "is truncated"),
        (lambda file: file.write_bytes(file.read_bytes()[:1000] + bytes(len(file.read_bytes()) - 1000)), "is truncated"),
    ],
)
def test_neural_weights_that_are_no_plain_arrays_are_refused(neural, plant, reason):
    plant(neural / H5)
    with pytest.raises(InputError, match=rf"model\.weights\.h5 .*({reason})"):
        model_directory.check(neural)


@pytest.mark.parametrize("libver", ["v110", "latest"])
def test_newer_hdf5_formats_are_refused(neural, libver):
    with h5py.File(neural / H5, "w", libver=libver) as opened:
        opened["x"] = np.zeros(3)
    with pytest.raises(InputError, match="not an HDF5 file written by Keras"):
        model_directory.check(neural)


@pytest.mark.parametrize(
    "changes",
    [
        {"units": 1_000_000},
        {"embedding": 1_000_000},
        {"units": 6},
        {"units": 10_000, "embedding": 10_000},
        {"length": 1_000_000},
        {"length": 100_000, "embedding": 1_000},
    ],
)
def test_settings_that_would_make_keras_fill_the_memory_are_refused(neural, changes):
    settings = json.loads((neural / CONFIG).read_text())["settings"]
    change_json(neural / CONFIG, settings=settings | changes)
    with pytest.raises(InputError, match=r"config\.json has (settings for|a length of)"):
        model_directory.check(neural)


def test_weights_of_another_shape_than_the_settings_say_are_refused_when_they_are_loaded(neural):
    settings = json.loads((neural / CONFIG).read_text())["settings"]
    change_json(neural / CONFIG, settings=settings | {"units": 4})
    model_directory.check(neural)  # fewer weights do no harm
    with pytest.raises(InputError, match="weights of another shape"):
        sentiment_model.SentimentModel.load(neural / "artifacts/bundle")


# ---- whatever a file holds


FUZZED = [
    ("linear", name)
    for name in (
        "MLmodel",
        "conda.yaml",
        "python_env.yaml",
        "requirements.txt",
        CONFIG,
        VOCABULARY,
        NPZ,
        "artifacts/bundle/probe.json",
    )
] + [("neural", H5)]


@pytest.mark.parametrize(("kind", "name"), FUZZED)
def test_a_damaged_file_passes_or_is_refused_with_its_name(kind, name, honest, tmp_path):
    folder = Path(shutil.copytree(honest[kind], tmp_path / kind))
    whole = (folder / name).read_bytes()
    draw = random.Random(7)
    refused = []
    for trial in range(30):
        data = bytearray(whole)
        if trial % 3 == 0:
            data = data[: draw.randrange(len(data))]
        else:
            for _ in range(draw.choice([1, 4, 32])):
                data[draw.randrange(len(data))] = draw.choice([0, 1, 0x7F, 0xFF, draw.randrange(256)])
        (folder / name).write_bytes(data)
        try:
            model_directory.check(folder)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) >= 10  # every cut at least
    assert all(str(folder) in reason for reason in refused)
