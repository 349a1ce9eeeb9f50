"""Files of a model directory that MLflow itself reads: `MLmodel`, requirements, input examples."""

import re
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from sentiflow.config.schema import Section
from sentiflow.registry.untrusted.reading import json_of, parsed, refusal, refusal_of, text_of, valid, yaml_of

ADDED_ON_DOWNLOAD = "registered_model_meta"  # by MLflow: name and version of the download

Short = Annotated[str, Field(max_length=1_000, pattern=r"^[^\x00-\x1f\x7f]*$")]
Version = Annotated[str, Field(max_length=100, pattern=r"^[0-9A-Za-z.+!_-]+$")]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
FORMERLY_REQUIRED = {"nltk"}  # by versions from before the stopwords were read without it
PIN = r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9A-Za-z.+!_-]+"
Pin = Annotated[str, Field(max_length=200, pattern=f"^{PIN}$")]


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
    """All allowed keys; others such as `metadata`, `resources` and `env_vars` make MLflow do something."""

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
    """Written by MLflow to every folder it returns, even in a local store.

    The version is None for a download by model id, an int for one by alias.
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


def check_mlmodel(folder: Path) -> list[Any]:
    """Refuses an `MLmodel` unless it is as registration writes it; returns the probability columns of its signature."""
    file = folder / "MLmodel"
    signature = valid(file, _MLmodel, yaml_of(file)).signature
    inputs, outputs = (parsed(file, text) for text in (signature.inputs, signature.outputs))
    label, *columns = outputs if isinstance(outputs, list) and outputs else [None]
    names = [column.get("name") if isinstance(column, dict) else None for column in columns]
    if (
        inputs != [{"type": "string", "required": True}]
        or label != {"type": "string", "name": "label", "required": True}
        or columns != [{"type": "double", "name": name, "required": True} for name in names]
    ):
        raise refusal_of(file, "has a signature other than one text in, a label and probabilities out")
    if (folder / ADDED_ON_DOWNLOAD).exists():
        valid(folder / ADDED_ON_DOWNLOAD, _Downloaded, yaml_of(folder / ADDED_ON_DOWNLOAD))
    return names


def check_requirements(folder: Path) -> None:
    """Refuses requirements other than pins of installed packages: MLflow may pass them to pip."""
    file = folder / "requirements.txt"
    pins = text_of(file).splitlines()
    for pin in pins:
        if not re.fullmatch(PIN, pin):
            raise refusal_of(file, f"has the line {pin[:200]!r}, expected NAME==VERSION")
        name = pin.partition("==")[0]
        if name in FORMERLY_REQUIRED:
            continue
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            raise refusal_of(file, f"requires {name!r}, which is not installed here, so sentiflow does not need it") from None
    conda = valid(folder / "conda.yaml", _Conda, yaml_of(folder / "conda.yaml"))
    if conda.dependencies[2].pip != pins:
        raise refusal(folder, "conda.yaml", "has other packages than requirements.txt")
    valid(folder / "python_env.yaml", _PythonEnv, yaml_of(folder / "python_env.yaml"))


def check_examples(folder: Path) -> None:
    """Refuses input examples unless both files have the same list of texts."""
    texts, served = json_of(folder / "input_example.json"), json_of(folder / "serving_input_example.json")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise refusal(folder, "input_example.json", "is not a list of texts")
    if served != {"inputs": texts}:
        raise refusal(folder, "serving_input_example.json", "has other texts than input_example.json")
