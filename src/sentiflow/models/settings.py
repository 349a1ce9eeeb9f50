"""The settings of each model in params.yaml, validated by the settings class of its network."""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sentiflow.config import params
from sentiflow.config.model_settings import ModelSettings
from sentiflow.config.params import Params
from sentiflow.models import networks
from sentiflow.system.errors import InputError


def load(file: Path = params.FILE) -> Params:
    """Reads and validates the whole file, including the settings of every model, before any work is done.

    Raises:
        InputError: naming every wrong key, its value and what is allowed.
    """
    values = params.read(file)
    return params.checked(file, values, also=list(_problems(values)) if isinstance(values, dict) else [])


def of(p: Params, model: str, network: str) -> ModelSettings:
    """The settings of one model. Imports the file of its network and no other.

    Raises:
        InputError: naming every wrong key.
    """
    if problems := list(_problems_of(model, network, p.models)):
        raise InputError(params.refusal(params.FILE, problems))
    return networks.settings_class(network).model_validate(p.models[model])


def descriptions(*used: str) -> dict[str, str]:
    """Purpose and cost of a larger value, or of having it, per setting of these networks."""
    fields = (networks.settings_class(network).model_fields.items() for network in used)
    return {name: field.description or "" for each in fields for name, field in each}


def _problems(values: dict[str, Any]) -> Iterator[str]:
    """Problems of models, and of sections that name one; `Params` itself reports a section of the wrong type."""
    models, compare = (values[key] if isinstance(values.get(key), dict) else {} for key in ("models", "compare"))
    for key in ("run", "others"):
        listed = values.get(key)
        for model, network in listed.items() if isinstance(listed, dict) else ():
            if network in networks.NETWORKS:
                yield from _problems_of(model, network, models)
            elif isinstance(network, str):
                known = ", ".join(networks.NETWORKS)
                yield f"{key}.{model}: received {network!r}; no network has this name, choose among {known}"
    for key in ("baseline", "tuned"):
        if isinstance(model := compare.get(key), str) and model not in models:
            yield f"compare.{key}: received {model!r}; no model has this name, choose among {', '.join(models)}"


def _problems_of(model: str, network: str, models: dict[str, Any]) -> Iterator[str]:
    if model not in models:
        close = difflib.get_close_matches(str(model), models, n=1)
        meant = f"; did you mean `{close[0]}`" if close else ""
        yield f"models.{model}: missing; add the settings of this model{meant}"
        return
    section = networks.settings_class(network)
    try:
        section.model_validate(models[model])
    except ValidationError as error:
        yield from params.explained(error, section, at=("models", model))
