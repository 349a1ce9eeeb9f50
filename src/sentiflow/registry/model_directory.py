"""Check an untrusted model directory without loading or running any of it.

A model directory of MLflow is code: its `MLmodel` names what is imported, and a pickle or a weights file can run or read
anything. So `check` accepts only the files and contents that registration writes. `digest` identifies the directory that was
registered.

Both expect a folder that no other user can write to: later changes go unnoticed.
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

# Maximum size of each file in bytes: well above what a valid one needs, and small enough to be read at once.
BUNDLE_FILES = {
    "cleaning.json": 1 * KB,
    "probe.json": 1 * MB,
    "vocabulary.json": 64 * MB,
    "model/config.json": 8 * MB,  # 10,000 class names of 100 characters each take up to 7 MB
    "model/environment.json": 32 * KB,
}
WEIGHTS_BYTES = 1_000 * MB
FILES = {
    "MLmodel": 8 * MB,  # has the class names too
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
    """Refuses a model directory unless it is as registration writes it.

    Args:
        folder: to which no other user can write.
    """
    found = _listing(folder, FOLDERS)
    for path, size in found.items():
        limit = FILES.get(path) or _limit_of_optional(path)
        if limit is None:
            raise refusal(folder, path, "is not a file of a registered model")
        if size > limit:
            raise refusal(folder, path, f"has {size} bytes, expected at most {limit}")
    for path in (*FILES, "code/sentiflow/__init__.py"):
        if path not in found:
            raise refusal(folder, path, "is missing")
    columns = mlflow_files.check_mlmodel(folder)
    mlflow_files.check_requirements(folder)
    mlflow_files.check_examples(folder)
    classes = check_bundle(folder / BUNDLE)
    if columns != [f"p_{name}" for name in classes]:
        raise refusal(folder, "MLmodel", f"has a signature with the columns {columns}, but the classes are {list(classes)}")


def check_bundle(bundle: Path) -> tuple[str, ...]:
    """Refuses a bundle unless it is as `sentiment_model.bundle` writes it.

    Returns:
        The names of the classes.
    """
    found = _listing(bundle, BUNDLE_FOLDERS)
    weights = [name for name in (LINEAR_WEIGHTS, NEURAL_WEIGHTS) if f"model/{name}" in found]
    if len(weights) != 1:
        raise refusal(bundle, "model", f"must have either {LINEAR_WEIGHTS} or {NEURAL_WEIGHTS}, got {weights or 'neither'}")
    expected = BUNDLE_FILES | {f"model/{weights[0]}": WEIGHTS_BYTES}
    for path in sorted(expected.keys() ^ found.keys()):
        raise refusal(bundle, path, "is missing" if path in expected else "is not a file of a registered model")
    for path, size in found.items():
        if size > expected[path]:
            raise refusal(bundle, path, f"has {size} bytes, expected at most {expected[path]}")

    config_file = bundle / "model/config.json"
    config = valid(config_file, bundle_files.Config, json_of(config_file))
    settings = bundle_files.settings(config_file, config)
    classes = tuple(config.classes)
    cleaning = valid(bundle / "cleaning.json", bundle_files.Cleaning, json_of(bundle / "cleaning.json"))
    if cleaning.view != settings.view:
        raise refusal(bundle, "cleaning.json", f"has the view {cleaning.view!r}, but model/config.json {settings.view!r}")
    words = bundle_files.vocabulary(bundle / "vocabulary.json")
    bundle_files.check_probe(bundle / "probe.json", classes)
    if not isinstance(json_of(bundle / "model/environment.json"), dict):
        raise refusal(bundle, "model/environment.json", "is not a JSON object")
    if isinstance(settings, LinearSettings) and weights[0] == LINEAR_WEIGHTS:
        linear_weights.check(bundle / "model" / LINEAR_WEIGHTS, settings, classes)
    elif isinstance(settings, NeuralSettings) and weights[0] == NEURAL_WEIGHTS:
        neural_weights.check(bundle / "model" / NEURAL_WEIGHTS, config_file, settings, words, classes)
    else:
        raise refusal(bundle, f"model/{weights[0]}", f"is not the file of a {config.network}'s weights")
    return classes


def digest(folder: Path) -> str:
    """SHA-256 over path, size and content of every file but the one that MLflow adds on download."""
    whole = hashlib.sha256()
    for path, size in sorted(_listing(folder, ANY_FOLDERS).items()):
        if path != mlflow_files.ADDED_ON_DOWNLOAD:
            with (folder / path).open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            whole.update(json.dumps([path, size, content]).encode() + b"\n")
    return whole.hexdigest()


def size_mb(folder: Path) -> float:
    """Size of all files in megabytes."""
    return sum(_listing(folder, ANY_FOLDERS).values()) / MB


def _listing(folder: Path, folders: re.Pattern[str]) -> dict[str, int]:
    """Size of each file in bytes by its relative path.

    Raises:
        InputError: if there is anything but regular files, in folders whose paths match `folders`.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected a model directory")
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
                        f"{folder} has more than {MOST_ENTRIES} files or is nested more than {DEEPEST} deep; {ADVICE}"
                    )
                if stat.S_ISREG(mode):
                    sizes[path] = entry.stat(follow_symlinks=False).st_size
                elif not stat.S_ISDIR(mode):
                    raise refusal(folder, path, f"is not a regular file (mode {stat.filemode(mode)})")
                elif folders.fullmatch(path):
                    waiting.append(path)
                else:
                    raise refusal(folder, path, "is not a folder of a registered model")
    return sizes


def _limit_of_optional(path: str) -> int | None:
    if path in {f"{BUNDLE}/model/{name}" for name in (LINEAR_WEIGHTS, NEURAL_WEIGHTS)}:
        return WEIGHTS_BYTES
    if path == mlflow_files.ADDED_ON_DOWNLOAD:
        return 1 * KB
    return CODE_BYTES if CODE.fullmatch(path) else None
