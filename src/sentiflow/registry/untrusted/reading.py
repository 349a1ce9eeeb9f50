"""Parsers of untrusted text, YAML and JSON, which refuse what is not as expected."""

import json
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent, ScalarEvent

from sentiflow.system.errors import InputError

ADVICE = "it is not used; choose another version, or register the model again"
MOST_ENTRIES = 1_000  # files and folders, objects of an HDF5 file, events of a YAML file
DEEPEST = 8  # nesting of folders, YAML, JSON, HDF5
STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)  # of JSON; also an unterminated one, or the search takes quadratic time

Model = TypeVar("Model", bound=BaseModel)


def refusal(folder: Path, path: str, reason: str) -> InputError:
    """The error that a file in a folder is refused, for a reason that continues "FILE ..."."""
    # both may contain control characters of a terminal
    path = path if path.isprintable() else ascii(path)
    reason = reason if reason.isprintable() else ascii(reason)
    return InputError(f"{folder / path} {reason[:600]}; {ADVICE}")


def refusal_of(file: Path, reason: str) -> InputError:
    """The same for a file by its own path."""
    return refusal(file.parent, file.name, reason)


def text_of(file: Path) -> str:
    """Content of a UTF-8 file."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise refusal_of(file, f"is not UTF-8 text (byte {error.start})") from None


def yaml_of(file: Path) -> Any:
    """Content of a YAML file without aliases, which can expand to gigabytes, without tags and deep nesting."""
    text, depth = text_of(file), 0
    try:
        for count, event in enumerate(_yaml_1_1().parse(text)):
            if count > MOST_ENTRIES:
                raise refusal_of(file, f"has more than {MOST_ENTRIES} YAML events")
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            merges = isinstance(event, ScalarEvent) and event.value == "<<"
            if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor) or merges:
                raise refusal_of(file, "has a YAML anchor or alias")
            if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag:
                raise refusal_of(file, "has a YAML tag")
            if depth > DEEPEST:
                raise refusal_of(file, f"is nested more than {DEEPEST} deep")
        return _yaml_1_1().load(text)
    except InputError:
        raise
    except (YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise refusal_of(file, f"is not valid YAML ({type(error).__name__})") from None


def _yaml_1_1() -> YAML:
    reader = YAML(typ="safe", pure=True)
    reader.version = (1, 1)  # as MLflow reads it
    return reader


def json_of(file: Path) -> Any:
    """Content of a JSON file without deep nesting, NaN and infinity."""
    return parsed(file, text_of(file))


def parsed(file: Path, text: str) -> Any:
    """The same for a text in the file."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            raise refusal_of(file, f"is nested more than {DEEPEST} deep")
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise refusal_of(file, f"is not valid JSON ({error})") from None


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def valid(file: Path, model: type[Model], values: Any) -> Model:
    """Values of a file, validated by a pydantic model."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the whole file"
        if problem["type"] == "extra_forbidden":
            raise refusal_of(file, f"has the key {where!r}, which is not expected") from None
        if problem["type"] == "missing":
            raise refusal_of(file, f"lacks the key {where!r}") from None
        raise refusal_of(file, f"has {repr(problem['input'])[:100]} as {where}: {problem['msg']}") from None
