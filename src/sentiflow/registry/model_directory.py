"""Whether a model directory may be used: it is looked at as a stranger's, and nothing of it is loaded or run to find out.

A model directory of MLflow is code: its `MLmodel` names what is imported, and a pickle or a weights file can run or read
anything. So every file must be one that our registration writes, and hold what it writes there. `digest` tells whether it is
the very directory that was registered.

Both look at a folder that nobody else can write to; what changes after the check is not checked.
"""

import hashlib
import json
import os
import re
import stat
from pathlib import Path

from sentiflow.config.model_settings import LinearSettings, NeuralSettings
from sentiflow.registry.untrusted import bundle_files, linear_weights, mlflow_files, neural_weights
from sentiflow.registry.untrusted.reading import ADVICE, DEEPEST, MOST_ENTRIES, json_of, refusal, valid
from sentiflow.system.errors import InputError

KB, MB = 1_000, 1_000_000
BUNDLE = "artifacts/bundle"
LINEAR_WEIGHTS, NEURAL_WEIGHTS = "weights.npz", "model.weights.h5"

# The largest that a file may be, in bytes: well above what an honest one needs, and small enough to be read at once.
BUNDLE_FILES = {
    "cleaning.json": 1 * KB,
    "probe.json": 1 * MB,
    "vocabulary.json": 64 * MB,
    "model/config.json": 8 * MB,  # 10,000 names of classes, of 100 characters each, take up to 7 MB
    "model/environment.json": 32 * KB,
}
WEIGHTS_BYTES = 1_000 * MB
FILES = {
    "MLmodel": 8 * MB,  # the same names
    "conda.yaml": 16 * KB,
    "input_example.json": 32 * KB,
    "python_env.yaml": 16 * KB,
    "registered_model.py": 64 * KB,
    "requirements.txt": 16 * KB,
    "serving_input_example.json": 32 * KB,
} | {f"{BUNDLE}/{name}": size for name, size in BUNDLE_FILES.items()}
CODE = re.compile(
    r"code/sentiflow/(?:\w+/)*\w[\w.]*\.(?:py|csv|yaml|jinja)|code/sentiflow/(?:data/)?nltk_data/corpora/stopwords/\w+", re.ASCII
)
FOLDERS = re.compile(rf"artifacts|{BUNDLE}(?:/model)?|code(?:/sentiflow(?:/\w+)*)?", re.ASCII)
BUNDLE_FOLDERS, ANY_FOLDERS = re.compile("model"), re.compile(".*", re.DOTALL)
CODE_BYTES = 1 * MB


def check(folder: Path) -> None:
    """Refuses every directory but one as our registration writes it.

    Args:
        folder: a model directory that was downloaded to where nobody else can write.
    """
    found = _listing(folder, FOLDERS)
    for path, size in found.items():
        most = FILES.get(path) or _most_bytes_of_others(path)
        if most is None:
            raise refusal(folder, path, "is no file that a registered model has")
        if size > most:
            raise refusal(folder, path, f"has {size} bytes; at most {most} are expected")
    for path in (*FILES, "code/sentiflow/__init__.py"):
        if path not in found:
            raise refusal(folder, path, "is missing")
    columns = mlflow_files.check_mlmodel(folder)
    mlflow_files.check_requirements(folder)
    mlflow_files.check_examples(folder)
    classes = check_bundle(folder / BUNDLE)
    if columns != [f"p_{name}" for name in classes]:
        raise refusal(folder, "MLmodel", f"has a signature with the columns {columns}; the classes are {list(classes)}")


def check_bundle(bundle: Path) -> tuple[str, ...]:
    """Refuses every bundle but one as `serving.bundle` writes it.

    Returns:
        The names of the classes.
    """
    found = _listing(bundle, BUNDLE_FOLDERS)
    weights = [name for name in (LINEAR_WEIGHTS, NEURAL_WEIGHTS) if f"model/{name}" in found]
    if len(weights) != 1:
        raise refusal(bundle, "model", f"must hold either {LINEAR_WEIGHTS} or {NEURAL_WEIGHTS}; it holds {weights or 'neither'}")
    expected = BUNDLE_FILES | {f"model/{weights[0]}": WEIGHTS_BYTES}
    for path in sorted(expected.keys() ^ found.keys()):
        raise refusal(bundle, path, "is missing" if path in expected else "is no file that a registered model has")
    for path, size in found.items():
        if size > expected[path]:
            raise refusal(bundle, path, f"has {size} bytes; at most {expected[path]} are expected")

    config_file = bundle / "model/config.json"
    config = valid(config_file, bundle_files.Config, json_of(config_file))
    settings = bundle_files.settings(config_file, config)
    classes = tuple(config.classes)
    cleaning = valid(bundle / "cleaning.json", bundle_files.Cleaning, json_of(bundle / "cleaning.json"))
    if cleaning.view != settings.view:
        raise refusal(bundle, "cleaning.json", f"has the view {cleaning.view!r}; model/config.json reads {settings.view!r}")
    words = bundle_files.vocabulary(bundle / "vocabulary.json")
    bundle_files.check_probe(bundle / "probe.json", classes)
    if not isinstance(json_of(bundle / "model/environment.json"), dict):
        raise refusal(bundle, "model/environment.json", "is no JSON object")
    if isinstance(settings, LinearSettings) and weights[0] == LINEAR_WEIGHTS:
        linear_weights.check(bundle / "model" / LINEAR_WEIGHTS, settings, classes)
    elif isinstance(settings, NeuralSettings) and weights[0] == NEURAL_WEIGHTS:
        neural_weights.check(bundle / "model" / NEURAL_WEIGHTS, config_file, settings, words, classes)
    else:
        raise refusal(bundle, f"model/{weights[0]}", f"is not how the weights of {config.network} are stored")
    return classes


def digest(folder: Path) -> str:
    """SHA-256 over path, size and content of every file, the same before and after a download.

    What MLflow adds on download, `registered_model_meta`, does not count.
    """
    whole = hashlib.sha256()
    for path, size in sorted(_listing(folder, ANY_FOLDERS).items()):
        if path != mlflow_files.ADDED_ON_DOWNLOAD:
            with (folder / path).open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            whole.update(json.dumps([path, size, content]).encode() + b"\n")
    return whole.hexdigest()


def _listing(folder: Path, folders: re.Pattern[str]) -> dict[str, int]:
    """Size of each file in bytes, by its path inside the folder; nothing but regular files, in folders that `folders` allows."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; expected a downloaded model directory")
    sizes: dict[str, int] = {}
    waiting, seen = [""], 0
    while waiting:
        inside = waiting.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                path = f"{inside}/{entry.name}" if inside else entry.name
                mode, seen = entry.stat(follow_symlinks=False).st_mode, seen + 1
                if seen > MOST_ENTRIES or path.count("/") > DEEPEST:
                    raise InputError(
                        f"{folder} holds more than {MOST_ENTRIES} files or is deeper than {DEEPEST} folders; {ADVICE}"
                    )
                if stat.S_ISREG(mode):
                    sizes[path] = entry.stat(follow_symlinks=False).st_size
                elif not stat.S_ISDIR(mode):
                    raise refusal(folder, path, f"is no regular file (mode {stat.filemode(mode)})")
                elif folders.fullmatch(path):
                    waiting.append(path)
                else:
                    raise refusal(folder, path, "is no folder that a registered model has")
    return sizes


def _most_bytes_of_others(path: str) -> int | None:
    """Of files that need not be there."""
    if path in {f"{BUNDLE}/model/{name}" for name in (LINEAR_WEIGHTS, NEURAL_WEIGHTS)}:
        return WEIGHTS_BYTES
    if path == mlflow_files.ADDED_ON_DOWNLOAD:
        return 1 * KB
    return CODE_BYTES if CODE.fullmatch(path) else None
