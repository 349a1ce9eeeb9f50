"""What a model was trained on, as far as its numbers may follow from it: processor, threads, GPUs and library versions."""

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

# What /proc/cpuinfo calls that which tells kinds of processors apart, on x86 and on ARM: clouds give many the same name.
MODEL = ("vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU variant", "CPU part", "CPU revision")
# Instruction sets by which libraries choose how they compute with floats.
FLOATS = re.compile(r"sse4_[12]|avx\w*|f16c|fma\w*|amx\w*|asimd\w*|sve\w*|sme(?!p)\w*|bf16|i8mm|fphp|fcma")


def describe(*, gpus: Sequence[str], threads: int) -> dict[str, Any]:
    """Plain values, the same at every run on one machine.

    Args:
        gpus: names of those that trained; none where the processor did.
        threads: that the training was allowed.
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
    """Each environment once, with the names of the models that were trained in it.

    >>> grouped({"lstm": {"cores": 2}, "gru": {"cores": 4}, "rnn": {"cores": 2}})
    [(['lstm', 'rnn'], {'cores': 2}), (['gru'], {'cores': 4})]
    """
    found: dict[str, tuple[list[str], Mapping[str, Any]]] = {}
    for name, environment in environments.items():
        found.setdefault(json.dumps(environment, sort_keys=True), ([], environment))[0].append(name)
    return list(found.values())


def record(environments: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The environments as they are kept in git: equal ones once, by name of architecture."""
    return [{"architectures": names, "environment": dict(told)} for names, told in grouped(dict(sorted(environments.items())))]


def _processor(cpuinfo: Path) -> dict[str, Any]:
    """Name, model and instruction sets of the first processor; the last two are empty where the system does not tell."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    told: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    flags = told.get("flags", told.get("Features", "")).split()
    return {
        "processor": told.get("model name") or platform.processor() or platform.machine(),
        "processor_model": ", ".join(f"{key} {told[key]}" for key in MODEL if key in told),
        "instruction_sets": sorted({flag for flag in flags if FLOATS.fullmatch(flag)}),
    }


def _caches(folder: Path) -> list[str]:
    """Level, kind and size of each cache: by them a product of matrices is cut into blocks, and so the order of its sums."""
    parts = ("level", "type", "size")
    try:
        return [" ".join((index / part).read_text().strip() for part in parts) for index in sorted(folder.glob("index*"))]
    except OSError:
        return []
