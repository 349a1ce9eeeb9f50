"""Whether a model directory may be used: it is looked at as a stranger's, and nothing of it is loaded or run to find out.

A model directory of MLflow is code: its `MLmodel` names what is imported, and a pickle or a weights file can run or read
anything. So every file must be one that our registration writes, and hold what it writes there. `digest` tells whether it is
the very directory that was registered.

Both look at a folder that nobody else can write to; what changes after the check is not checked.
"""

import hashlib
import json
import math
import os
import re
import stat
import struct
import tokenize
import warnings
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import h5py
import numpy as np
from pydantic import BaseModel, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

from sentiflow import calibration
from sentiflow.errors import InputError
from sentiflow.schema import Section, Share
from sentiflow.settings import Architectures, LinearReader, Reader
from sentiflow.vocabulary import Vocabulary

ADVICE = "it is not used; take another version, or register the model anew"
KB, MB = 1_000, 1_000_000
BUNDLE = "artifacts/bundle"
ADDED_ON_DOWNLOAD = "registered_model_meta"  # by MLflow; says which version was asked for
LINEAR_WEIGHTS, NEURAL_WEIGHTS = "weights.npz", "model.weights.h5"

# The largest that a file may be, in bytes: well above what an honest one needs, and small enough to be read at once.
BUNDLE_FILES = {
    "cleaning.json": 1 * KB,
    "probe.json": 1 * MB,
    "vocabulary.json": 64 * MB,
    "model/config.json": 32 * KB,
    "model/environment.json": 32 * KB,
}
WEIGHTS_BYTES = 1_000 * MB
FILES = {
    "MLmodel": 32 * KB,
    "conda.yaml": 16 * KB,
    "input_example.json": 32 * KB,
    "python_env.yaml": 16 * KB,
    "registered_model.py": 64 * KB,
    "requirements.txt": 16 * KB,
    "serving_input_example.json": 32 * KB,
} | {f"{BUNDLE}/{name}": size for name, size in BUNDLE_FILES.items()}
CODE = re.compile(
    r"code/sentiflow/(?:\w+/)*\w[\w.]*\.(?:py|csv|yaml|jinja)|code/sentiflow/nltk_data/corpora/stopwords/english", re.ASCII
)
FOLDERS = re.compile(rf"artifacts|{BUNDLE}(?:/model)?|code(?:/sentiflow(?:/\w+)*)?", re.ASCII)
BUNDLE_FOLDERS, ANY_FOLDERS = re.compile("model"), re.compile(".*", re.DOTALL)
CODE_BYTES = 1 * MB
MOST_ENTRIES = 1_000  # files and folders
DEEPEST = 8  # folders, YAML, HDF5
LONGEST_WORD = 1_000_000  # characters
MOST_BRACKETS = 10_000  # in a vocabulary, whose words may hold some; a file of nothing else takes gigabytes when it is parsed
STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)  # of JSON; one that does not end is one too, or searching takes hours

# A config that asks for far more weights than the file holds would make Keras allocate them before it compares.
WEIGHTS_TO_SPARE, WEIGHTS_FACTOR = 1_000_000, 16
LONGEST = 100_000  # words of a review
MOST_VALUES = 4_000_000  # numbers that one layer makes of one review

# HDF5's oldest format, from the first byte on, no list of free space, as long as the file (%b), no driver of its own.
SUPERBLOCK = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, *[0] * 13]) + b"\xff" * 8 + b"%b" + b"\xff" * 8

Model = TypeVar("Model", bound=BaseModel)
Short = Annotated[str, Field(max_length=1_000, pattern=r"^[^\x00-\x1f\x7f]*$")]
Version = Annotated[str, Field(max_length=100, pattern=r"^[0-9A-Za-z.+!_-]+$")]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
PIN = r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9A-Za-z.+!_-]+"
Pin = Annotated[str, Field(max_length=200, pattern=f"^{PIN}$")]
ClassName = Annotated[str, Field(min_length=1, max_length=100)]


def check(folder: Path) -> None:
    """Refuses every directory but one as our registration writes it.

    Args:
        folder: a model directory that was downloaded to where nobody else can write.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    found = _listing(folder, FOLDERS)
    for path, size in found.items():
        most = FILES.get(path) or _most_bytes_of_others(path)
        if most is None:
            raise _refusal(folder, path, "is no file that a registered model has")
        if size > most:
            raise _refusal(folder, path, f"has {size} bytes; at most {most} are expected")
    for path in (*FILES, "code/sentiflow/__init__.py"):
        if path not in found:
            raise _refusal(folder, path, "is missing")
    columns = _check_mlmodel(folder)
    _check_requirements(folder)
    _check_examples(folder)
    classes = check_bundle(folder / BUNDLE)
    if columns != [f"p_{name}" for name in classes]:
        raise _refusal(folder, "MLmodel", f"has a signature with the columns {columns}; the classes are {list(classes)}")


def check_bundle(bundle: Path) -> tuple[str, ...]:
    """Refuses every bundle but one as `serving.bundle` writes it.

    Returns:
        The names of the classes.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    found = _listing(bundle, BUNDLE_FOLDERS)
    weights = [name for name in (LINEAR_WEIGHTS, NEURAL_WEIGHTS) if f"model/{name}" in found]
    if len(weights) != 1:
        raise _refusal(bundle, "model", f"must hold either {LINEAR_WEIGHTS} or {NEURAL_WEIGHTS}; it holds {weights or 'neither'}")
    expected = BUNDLE_FILES | {f"model/{weights[0]}": WEIGHTS_BYTES}
    for path in sorted(expected.keys() ^ found.keys()):
        raise _refusal(bundle, path, "is missing" if path in expected else "is no file that a registered model has")
    for path, size in found.items():
        if size > expected[path]:
            raise _refusal(bundle, path, f"has {size} bytes; at most {expected[path]} are expected")

    config_file = bundle / "model/config.json"
    config = _valid(config_file, _Config, _json(config_file))
    settings = _settings(config_file, config)
    classes = tuple(config.classes)
    cleaning = _valid(bundle / "cleaning.json", _Cleaning, _json(bundle / "cleaning.json"))
    if cleaning.view != settings.view:
        raise _refusal(bundle, "cleaning.json", f"has the view {cleaning.view!r}; model/config.json reads {settings.view!r}")
    words = _vocabulary(bundle / "vocabulary.json")
    _check_probe(bundle / "probe.json", classes)
    if not isinstance(_json(bundle / "model/environment.json"), dict):
        raise _refusal(bundle, "model/environment.json", "is no JSON object")
    linear = isinstance(settings, LinearReader)
    if linear != (weights[0] == LINEAR_WEIGHTS):
        raise _refusal(bundle, f"model/{weights[0]}", f"is not how the weights of {config.architecture} are stored")
    if isinstance(settings, LinearReader):
        _check_linear(bundle / "model" / LINEAR_WEIGHTS, settings, classes)
    else:
        _check_neural(bundle / "model" / NEURAL_WEIGHTS, config_file, settings, words, classes)
    return classes


def digest(folder: Path) -> str:
    """SHA-256 over path, size and content of every file, the same before and after a download.

    What MLflow adds on download, `registered_model_meta`, does not count.

    Raises:
        InputError: if the folder holds anything but regular files and folders.
    """
    whole = hashlib.sha256()
    for path, size in sorted(_listing(folder, ANY_FOLDERS).items()):
        if path != ADDED_ON_DOWNLOAD:
            with (folder / path).open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            whole.update(json.dumps([path, size, content]).encode() + b"\n")
    return whole.hexdigest()


# ---- the list of files


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
                    raise _refusal(folder, path, f"is no regular file (mode {stat.filemode(mode)})")
                elif folders.fullmatch(path):
                    waiting.append(path)
                else:
                    raise _refusal(folder, path, "is no folder that a registered model has")
    return sizes


def _most_bytes_of_others(path: str) -> int | None:
    """Of files that need not be there."""
    if path in {f"{BUNDLE}/model/{name}" for name in (LINEAR_WEIGHTS, NEURAL_WEIGHTS)}:
        return WEIGHTS_BYTES
    if path == ADDED_ON_DOWNLOAD:
        return 1 * KB
    return CODE_BYTES if CODE.fullmatch(path) else None


def _refusal(folder: Path, path: str, reason: str) -> InputError:
    # a hostile name or value may hold anything, a terminal's control characters too
    named = path if path.isprintable() else ascii(path)
    told = reason if reason.isprintable() else ascii(reason)
    return InputError(f"{folder / named} {told[:600]}; {ADVICE}")


def _of_file(file: Path, reason: str) -> InputError:
    return _refusal(file.parent, file.name, reason)


# ---- what MLflow reads before it loads


class _Bundle(Section):
    path: Literal["artifacts/bundle"]
    uri: Short


class _Artifacts(Section):
    bundle: _Bundle


class _Env(Section):
    conda: Literal["conda.yaml"]
    virtualenv: Literal["python_env.yaml"]


class _PythonFunction(Section):
    artifacts: _Artifacts
    cloudpickle_version: Version
    code: Literal["code"]
    env: _Env
    loader_module: Literal["mlflow.pyfunc.loaders.code_model"]
    model_code_path: Annotated[str, Field(max_length=1_000, pattern=r"^([^\x00-\x1f\x7f]*/)?registered_model\.py$")]
    python_version: Version
    streamable: Literal[False]


class _Flavors(Section):
    python_function: _PythonFunction


class _Example(Section):
    artifact_path: Literal["input_example.json"]
    serving_input_path: Literal["serving_input_example.json"]
    type: Literal["json_object"]


class _Signature(Section):
    inputs: str
    outputs: str
    params: None


class _MLmodel(Section):
    """Every key of it; `metadata`, `resources`, `env_vars` and all that else makes MLflow do something are refused."""

    artifact_path: Short
    flavors: _Flavors
    is_signature_from_type_hint: Literal[False]
    mlflow_version: Version
    model_id: Annotated[str, Field(pattern=r"^m-[0-9a-f]{32}$")]
    model_size_bytes: int
    model_uuid: Annotated[str, Field(pattern=r"^(m-)?[0-9a-f]{32}$")]
    prompts: None
    run_id: Hex
    saved_input_example_info: _Example
    signature: _Signature
    type_hint_from_example: Literal[False]
    utc_time_created: Short


class _Downloaded(Section):
    """None where a model was asked for by its id instead of its version; a number where it was asked for by an alias.

    MLflow adds it to whatever it gives, the folder of a store on this machine included: who loads a version there, changes it.
    """

    model_name: Short | None
    model_version: Annotated[str, Field(pattern=r"^[0-9]{1,18}$")] | Annotated[int, Field(ge=1, lt=10**18)] | None


class _Pip(Section):
    pip: Annotated[list[Pin], Field(max_length=100)]


class _Conda(Section):
    channels: list[Literal["conda-forge"]]
    dependencies: Annotated[
        tuple[Annotated[str, Field(pattern=r"^python=[0-9.]+$")], Annotated[str, Field(pattern=r"^pip(<=[0-9.]+)?$")], _Pip],
        Field(strict=False),  # YAML has no tuples
    ]
    name: Literal["mlflow-env"]


class _PythonEnv(Section):
    python: Annotated[str, Field(pattern=r"^[0-9.]+$")]
    build_dependencies: list[Annotated[str, Field(pattern=r"^(pip|setuptools|wheel)(==[0-9.]+)?$")]]
    dependencies: Annotated[tuple[Literal["-r requirements.txt"]], Field(strict=False)]


def _check_mlmodel(folder: Path) -> list[Any]:
    """The signature's columns of probabilities."""
    file = folder / "MLmodel"
    signature = _valid(file, _MLmodel, _yaml(file)).signature
    inputs, outputs = (_parsed(file, text) for text in (signature.inputs, signature.outputs))
    label, *columns = outputs if isinstance(outputs, list) and outputs else [None]
    names = [column.get("name") if isinstance(column, dict) else None for column in columns]
    if (
        inputs != [{"type": "string", "required": True}]
        or label != {"type": "string", "name": "label", "required": True}
        or columns != [{"type": "double", "name": name, "required": True} for name in names]
    ):
        raise _of_file(file, "has another signature than one text in, a label and probabilities out")
    if (folder / ADDED_ON_DOWNLOAD).exists():
        _valid(folder / ADDED_ON_DOWNLOAD, _Downloaded, _yaml(folder / ADDED_ON_DOWNLOAD))
    return names


def _check_requirements(folder: Path) -> None:
    """MLflow may hand these to pip: pins of what is installed here, and no option, address or file."""
    file = folder / "requirements.txt"
    pins = _text(file).splitlines()
    for pin in pins:
        if not re.fullmatch(PIN, pin):
            raise _of_file(file, f"holds {pin[:200]!r}; each line is expected to be NAME==VERSION")
        name = pin.partition("==")[0]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            raise _of_file(file, f"wants {name!r}, which is not installed here, so sentiflow does not need it") from None
    conda = _valid(folder / "conda.yaml", _Conda, _yaml(folder / "conda.yaml"))
    if conda.dependencies[2].pip != pins:
        raise _refusal(folder, "conda.yaml", "wants other packages than requirements.txt")
    _valid(folder / "python_env.yaml", _PythonEnv, _yaml(folder / "python_env.yaml"))


def _check_examples(folder: Path) -> None:
    texts, served = _json(folder / "input_example.json"), _json(folder / "serving_input_example.json")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _refusal(folder, "input_example.json", "is no list of texts")
    if served != {"inputs": texts}:
        raise _refusal(folder, "serving_input_example.json", "holds other texts than input_example.json")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _of_file(file, f"is not UTF-8 text (byte {error.start})") from None


def _yaml(file: Path) -> Any:
    """Plain YAML: no alias, since a few of them make a gigabyte, no tag, no depth."""
    text, depth = _text(file), 0
    try:
        for event in _yaml_1_1().parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            merges = isinstance(event, ScalarEvent) and event.value == "<<"
            if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor) or merges:
                raise _of_file(file, "holds a YAML anchor or alias")
            if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag:
                raise _of_file(file, "holds a YAML tag")
            if depth > DEEPEST:
                raise _of_file(file, f"is nested more than {DEEPEST} deep")
        return _yaml_1_1().load(text)
    except InputError:
        raise
    except (YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise _of_file(file, f"is no YAML ({type(error).__name__})") from None


def _yaml_1_1() -> YAML:
    reader = YAML(typ="safe", pure=True)
    reader.version = (1, 1)  # as MLflow reads it
    return reader


def _json(file: Path) -> Any:
    return _parsed(file, _text(file))


def _parsed(file: Path, text: str) -> Any:
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            raise _of_file(file, f"is nested more than {DEEPEST} deep")
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _of_file(file, f"is no JSON ({error})") from None


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _valid(file: Path, model: type[Model], values: Any) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the whole"
        if problem["type"] == "extra_forbidden":
            raise _of_file(file, f"has the key {where!r}, which is not expected") from None
        if problem["type"] == "missing":
            raise _of_file(file, f"lacks the key {where!r}") from None
        raise _of_file(file, f"has {repr(problem['input'])[:100]} as {where}: {problem['msg']}") from None


# ---- what our own code reads


class _Config(Section):
    architecture: str
    classes: Annotated[list[ClassName], Field(min_length=2, max_length=100)]
    settings: dict[str, Any]
    temperature: Annotated[float, Field(ge=calibration.BOUNDS[0], le=calibration.BOUNDS[1])]


class _Cleaning(Section):
    keep_negations: bool
    view: Literal["text", "content"]


class _Probe(Section):
    texts: Annotated[list[Annotated[str, Field(max_length=100_000)]], Field(min_length=1, max_length=1_000)]
    probabilities: list[list[Share]]


def _settings(file: Path, config: _Config) -> Reader:
    known = Architectures.model_fields.get(config.architecture)
    section = known.annotation if known else None
    if not (isinstance(section, type) and issubclass(section, Reader)):
        raise _of_file(file, f"has the architecture {config.architecture[:100]!r}, which is not known here")
    if len(set(config.classes)) < len(config.classes) or not all(name.isprintable() for name in config.classes):
        raise _of_file(file, f"has the classes {config.classes}; distinct and printable names are expected")
    return _valid(file, section, config.settings)


def _vocabulary(file: Path) -> Vocabulary:
    content = file.read_bytes()
    if content.count(b"[") + content.count(b"{") > MOST_BRACKETS:
        raise _of_file(file, f"holds more than {MOST_BRACKETS} brackets")
    try:
        words = Vocabulary.read(file)
        "".join(words.words).encode()  # half a surrogate pair is a string that Arrow cannot hold
    except (InputError, RecursionError, OverflowError, UnicodeEncodeError):
        raise _of_file(file, "is not a tokenizer as Keras's Tokenizer.to_json() writes it") from None
    if not all(0 < len(word) < LONGEST_WORD for word in words.words):
        raise _of_file(file, "holds an empty or endless word")
    if words.counts.dtype.kind != "i" or words.counts.shape != (len(words),) or words.counts.min() < 0:
        raise _of_file(file, "holds counts that are no whole numbers from 0 up")
    return words


def _check_probe(file: Path, classes: tuple[str, ...]) -> None:
    probe = _valid(file, _Probe, _json(file))
    shapes = {len(row) for row in probe.probabilities}
    if len(probe.probabilities) != len(probe.texts) or shapes != {len(classes)}:
        raise _of_file(file, f"must hold {len(classes)} probabilities for each of its {len(probe.texts)} texts")
    if not all(math.isclose(sum(row), 1, abs_tol=1e-3) for row in probe.probabilities):
        raise _of_file(file, "holds probabilities that do not add up to 1")
    if any(0xD800 <= ord(character) <= 0xDFFF for text in probe.texts for character in text):
        raise _of_file(file, "holds a text with half a surrogate pair")


# ---- weights of a linear model


def _check_linear(file: Path, settings: LinearReader, classes: tuple[str, ...]) -> None:
    """Headers first: their shapes must agree with each other, the config and the size of the file before a number is read."""
    grams = [f"grams_{length}" for length in range(1, settings.ngrams + 1)]
    must = {"weights", "bias", *grams}
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(max(size - 42, 0))
        end = opened.read()
    # The list of members is read as a whole by whoever opens the file, so how long it is comes first.
    entries, listed = struct.unpack_from("<10xH1I", end, len(end) - 22)[:2] if len(end) == 42 else (0, 0)
    if end[-22:-18] != b"PK\5\6" or end[:4] == b"PK\6\7" or entries > 16 or listed > 4 * KB:
        raise _of_file(file, "was cut off or is no archive as NumPy writes it")
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            stored = sum(member.file_size for member in members)
            if not (must <= set(names) <= must | {"idf"}) or len(set(names)) < len(names):
                raise _of_file(file, f"holds {sorted(names)}; expected are {sorted(must)}, and idf for some")
            if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members) or stored > size:
                raise _of_file(file, "holds a compressed, encrypted or overlapping array")
            for name, member in zip(names, members, strict=True):
                shapes[name] = _shape_of_npy(file, archive, member, "i8" if name in grams else "f4 f8")
        rows, columns = 1 if len(classes) == 2 else len(classes), sum(math.prod(shapes[name]) for name in grams)
        expected = {"weights": (rows, columns), "bias": (rows,)} | {name: (math.prod(shapes[name]),) for name in grams}
        for name, shape in (expected | ({"idf": (columns,)} if "idf" in shapes else {})).items():
            if shapes[name] != shape:
                raise _of_file(file, f"holds {name} of shape {shapes[name]}; {shape} is expected")
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            for name in shapes:
                array = arrays[name]
                if name in grams and len(array) and (array[0] < 0 or (np.diff(array) <= 0).any()):
                    raise _of_file(file, f"holds {name} that are not sorted from 0 up")
                if not np.isfinite(array).all():
                    raise _of_file(file, f"holds {name} that are no finite numbers")
    except InputError:
        raise
    except (zipfile.BadZipFile, ValueError, TypeError, KeyError, IndexError, EOFError, OSError) as error:
        raise _of_file(file, f"was cut off or changed ({error})") from None
    except (
        NotImplementedError,
        RuntimeError,
        OverflowError,
        MemoryError,
        struct.error,
        SyntaxError,
        tokenize.TokenError,
        UserWarning,
    ) as error:
        raise _of_file(file, f"is no archive as NumPy writes it ({error})") from None


def _shape_of_npy(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, types: str) -> tuple[int, ...]:
    """Of one array, whose type must be one of `types` and whose data must fill the member."""
    with archive.open(member) as opened:
        if np.lib.format.read_magic(opened) != (1, 0):
            raise _of_file(file, f"holds {member.filename!r} in another version of NumPy's format than 1.0")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # NumPy mends headers that Python 2 wrote
            shape, _, dtype = np.lib.format.read_array_header_1_0(opened, max_header_size=300)
        if dtype not in [np.dtype(f"<{name}") for name in types.split()]:
            raise _of_file(file, f"holds {member.filename!r} of the type {dtype}; {types} is expected")
        if opened.tell() + math.prod(shape) * dtype.itemsize != member.file_size or min(shape, default=-1) < 0:
            raise _of_file(file, f"holds {member.filename!r} whose shape {shape} is not how many numbers are there")
    return tuple(shape)


# ---- weights of a neural model


def _check_neural(file: Path, config_file: Path, settings: Reader, words: Vocabulary, classes: tuple[str, ...]) -> None:
    told = settings.model_dump()
    windows = told.get("windows", [told.get("window", 0)])
    layer = max(told.get("embedding", 0), told.get("filters", 0) * len(windows), 2 * told.get("units", 0), told.get("hidden", 0))
    values = told["length"] * max(layer, told["length"] * told.get("heads", 0))
    if told["length"] > LONGEST or values > MOST_VALUES:
        raise _of_file(config_file, f"has a length of {told['length']}, of which one layer would make {values} numbers")
    stored = _weights_in(file)
    asked = weights_at_most(told, words=words, classes=len(classes))
    if asked > WEIGHTS_TO_SPARE + WEIGHTS_FACTOR * stored or len(windows) > stored:
        raise _of_file(config_file, f"has settings for up to {asked} weights; {file.name} holds {stored}")


def weights_at_most(settings: dict[str, Any], *, words: Vocabulary, classes: int) -> int:
    """A number of weights that no neural architecture exceeds at these settings, without building it.

    Args:
        settings: of an architecture, as `model/config.json` has them.
        words: that it reads.
        classes: number of them.
    """
    size = words.size(at_most=settings["vocabulary_size"], minimum_count=settings["minimum_count"])
    length, embedding = settings["length"], settings.get("embedding", 0)
    units, second, hidden, filters = (settings.get(name, 0) for name in ("units", "second_units", "hidden", "filters"))
    windows = settings.get("windows", [settings.get("window", 0)])
    read = embedding + filters * len(windows)  # numbers a word, for what reads it next
    return int(
        embedding * (size + settings.get("buckets", 0) + length)  # words, pairs, places
        + sum(windows) * embedding * filters  # phrases
        + 8 * units * (read + units + 1)  # order: four gates, in both directions
        + 4 * second * (2 * units + second + 1)
        + hidden * (length * embedding + 2 * units + second + 1)
        + (4 * embedding * (embedding + 4) if "heads" in settings else 0)
        + classes * (read + length * embedding + 2 * units + second + hidden + 1)
        + embedding * 8 + filters * len(windows) + hidden * embedding
    )  # fmt: skip


def _weights_in(file: Path) -> int:
    """Number of weights in a file as Keras writes it: groups, plain arrays of numbers, and one name a group."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(56)
    if head != SUPERBLOCK % size.to_bytes(8, "little"):
        raise _of_file(file, "was cut off or is no HDF5 file as Keras writes it")
    try:
        with h5py.File(file, "r") as opened:
            arrays = list(_arrays(file, opened.id, 0, set()))
            if sum(array.get_storage_size() for array in arrays) > size:
                raise _of_file(file, "holds arrays that overlap")
            for array in arrays:
                numbers = h5py.Dataset(array)[()]
                if not np.isfinite(numbers).all():
                    raise _of_file(file, f"holds weights that are no finite numbers in {h5py.Dataset(array).name!r}")
            return sum(math.prod(array.shape) for array in arrays)
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise _of_file(file, f"was cut off or changed ({str(error)[:200]})") from None


def _arrays(file: Path, group: Any, depth: int, seen: set[int]) -> Iterator[Any]:
    """Every array below a group, by HDF5's own functions: those with more comfort follow links and read attributes."""
    _check_attributes(file, group)
    count = group.get_num_objs()
    if depth > DEEPEST or count > MOST_ENTRIES:
        raise _of_file(file, f"holds more than {MOST_ENTRIES} parts or is nested more than {DEEPEST} deep")
    for index in range(count):
        name = group.get_objname_by_idx(index)
        if not re.fullmatch(rb"[A-Za-z0-9_]{1,200}", name):
            raise _of_file(file, f"holds a part named {name[:100]!r}")
        if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise _of_file(file, f"holds the link {name!r} instead of a part")
        part = h5py.h5o.open(group, name)
        address = h5py.h5o.get_info(part).addr
        if address in seen or len(seen) > MOST_ENTRIES:
            raise _of_file(file, f"holds {name!r} under two names, or more than {MOST_ENTRIES} parts")
        seen.add(address)
        if isinstance(part, h5py.h5g.GroupID):
            yield from _arrays(file, part, depth + 1, seen)
        elif isinstance(part, h5py.h5d.DatasetID):
            _check_array(file, name, part)
            yield part
        else:
            raise _of_file(file, f"holds {name!r}, which is neither a group nor an array")


def _check_array(file: Path, name: bytes, array: Any) -> None:
    made, kind = array.get_create_plist(), array.get_type()
    if made.get_external_count() or made.get_layout() != h5py.h5d.CONTIGUOUS or made.get_nfilters():
        raise _of_file(file, f"holds {name!r} that is compressed, virtual or kept in another file")
    numbers = isinstance(kind, h5py.h5t.TypeFloatID | h5py.h5t.TypeIntegerID)
    if not numbers or kind.dtype not in (np.float32, np.float64, np.uint32, np.int32, np.int64):
        raise _of_file(file, f"holds {name!r} of another type than plain numbers")
    space = array.get_space()
    # HDF5 hands out zeros for what was never written, as many as the shape says.
    if (
        space.get_simple_extent_type() not in (h5py.h5s.SIMPLE, h5py.h5s.SCALAR)
        or len(array.shape) > 4
        or math.prod(array.shape) * kind.get_size() != array.get_storage_size()
        or (math.prod(array.shape) and array.get_offset() is None)
    ):
        raise _of_file(file, f"holds {name!r} of shape {array.shape}, which is not how many numbers are there")
    if h5py.h5a.get_num_attrs(array):
        raise _of_file(file, f"holds {name!r} with attributes")


def _check_attributes(file: Path, group: Any) -> None:
    """Keras notes a layer's name with its group; nothing reads it."""
    count = h5py.h5a.get_num_attrs(group)
    names = [h5py.h5a.open(group, index=index).name for index in range(min(count, 2))]
    if names not in ([], [b"name"]):
        raise _of_file(file, f"holds attributes {names} that Keras does not write")
    for index in range(count):
        attribute = h5py.h5a.open(group, index=index)
        if not isinstance(attribute.get_type(), h5py.h5t.TypeStringID) or attribute.shape != ():
            raise _of_file(file, "holds a layer's name that is no text")
