"""Names that distinguish this checkout from others on the same Prefect server and the same machine."""

import hashlib
import platform
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sentiflow.system.errors import InputError

DEPLOYMENTS = Path("prefect.yaml")
DEFAULT_NAME = "sentiflow"  # as in prefect.yaml


def description() -> str:
    return f"{Path.cwd()} on {platform.node()}"


def pool() -> str:
    """Work pool of this checkout. It depends on folder and host, so a copy has a different one."""
    return f"sentiflow-{hashlib.sha256(description().encode()).hexdigest()[:8]}"


def definitions() -> dict[str, Any]:
    """Content of prefect.yaml."""
    try:
        content = YAML(typ="safe").load(DEPLOYMENTS)
    except FileNotFoundError:
        raise InputError(f"there is no {DEPLOYMENTS} in {Path.cwd()}; run this in the top folder of the project") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{DEPLOYMENTS} is not valid YAML; correct it and start again: {' '.join(str(error).split())}") from None
    name = content.get("name") if isinstance(content, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise InputError(f"{DEPLOYMENTS}: `name` must consist of lower-case letters, digits and dashes, got {name!r}")
    return dict(content)


def with_name(text: str) -> str:
    """`text`, followed by the project's name unless that is the default one.

    It keeps projects with different names apart on one Prefect server.
    """
    name = _name()
    return text if name == DEFAULT_NAME else f"{text}-{name}"


def event_resource() -> str:
    """Resource of the events of new data, as the trigger in prefect.yaml matches it."""
    return f"{_name()}.source"


def _name() -> str:
    return str(definitions()["name"]) if DEPLOYMENTS.exists() else DEFAULT_NAME  # flows also run without deployments
