"""Configuration of a trained classifier: config.json in its folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sentiflow.config.model_settings import ModelSettings
from sentiflow.evaluation import calibration
from sentiflow.models import networks
from sentiflow.system.errors import InputError

FILE = "config.json"
Settings = TypeVar("Settings", bound=ModelSettings, covariant=True)


@dataclass(frozen=True)
class ModelConfig(Generic[Settings]):
    """The model's name, its network, settings and classes, and the temperature of its probabilities."""

    model: str
    network: str
    settings: Settings
    classes: tuple[str, ...]
    temperature: float = calibration.NONE

    def write(self, folder: Path) -> None:
        """Writes the same bytes for the same configuration."""
        values = asdict(self) | {"settings": self.settings.model_dump()}
        (folder / FILE).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path) -> ModelConfig[Any]:
    """Reads what `ModelConfig.write` wrote.

    Raises:
        InputError: if there is no trained model in the folder.
    """
    file = folder / FILE
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        settings = networks.settings_class(values["network"]).model_validate(values["settings"])
        config = ModelConfig(**values | {"settings": settings, "classes": tuple(values["classes"])})
        low, high = calibration.BOUNDS
        if len(config.classes) < 2 or not low <= config.temperature <= high:
            raise ValueError
    except FileNotFoundError:
        raise InputError(f"no trained model in {folder}; train it: dvc repro train@{folder.name}") from None
    except (ValueError, KeyError, TypeError, InputError):
        raise InputError(f"{file} does not describe a trained model; train it again: dvc repro train@{folder.name}") from None
    return config
