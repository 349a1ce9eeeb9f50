"""Description of the training environment, as far as it can affect a model's numbers: processor, threads, GPUs, libraries."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("keras", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "tensorflow")
CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

# Keys of /proc/cpuinfo that identify a processor model, on x86 and on ARM: clouds give different models the same name.
MODEL = ("vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU variant", "CPU part", "CPU revision")
# Instruction sets by which libraries choose their floating-point code.
FLOATS = re.compile(r"sse4_[12]|avx\w*|f16c|fma\w*|amx\w*|asimd\w*|sve\w*|sme(?!p)\w*|bf16|i8mm|fphp|fcma")


def describe(*, gpus: Sequence[str], threads: int) -> dict[str, Any]:
    """JSON values that are the same on every run on one machine.

    Args:
        gpus: names of the GPUs that trained; empty for training on the processor.
        threads: number of threads available to the training.
    """
    return {
        **_processor(CPUINFO),
        "caches": _caches(CACHES),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),  # macOS has no affinity
        "threads": threads,
        "gpus": list(gpus),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def grouped(environments: Mapping[str, Mapping[str, Any]]) -> list[tuple[list[str], Mapping[str, Any]]]:
    """Distinct environments, each with the names of the models trained in it.

    >>> grouped({"lstm": {"cores": 2}, "gru": {"cores": 4}, "rnn": {"cores": 2}})
    [(['lstm', 'rnn'], {'cores': 2}), (['gru'], {'cores': 4})]
    """
    found: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    for name, environment in environments.items():
        found.setdefault(json.dumps(environment, sort_keys=True), ([], environment))[0].append(name)
    return list(found.values())


def record(environments: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Content of metrics/environment.json: distinct environments, in the order of the model names."""
    groups = grouped(dict(sorted(environments.items())))
    return [{"architectures": names, "environment": dict(environment)} for names, environment in groups]


def _processor(cpuinfo: Path) -> dict[str, Any]:
    """Name, model and instruction sets of the first processor; the last two are empty if the system does not report them."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    values: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    flags = values.get("flags", values.get("Features", "")).split()
    return {
        "processor": values.get("model name") or platform.processor() or platform.machine(),
        "processor_model": ", ".join(f"{key} {values[key]}" for key in MODEL if key in values),
        "instruction_sets": sorted({flag for flag in flags if FLOATS.fullmatch(flag)}),
    }


def _caches(folder: Path) -> list[str]:
    """Level, type and size of each cache. Matrix products are blocked by cache size, which sets the order of summation."""
    parts = ("level", "type", "size")
    try:
        return [" ".join((index / part).read_text().strip() for part in parts) for index in sorted(folder.glob("index*"))]
    except OSError:
        return []
