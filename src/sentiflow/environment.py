"""What a model was trained on, as far as its numbers may follow from it: processor, cores, GPUs and library versions."""

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("keras", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "tensorflow")


def describe(*, gpus: Sequence[str]) -> dict[str, Any]:
    """Plain values, the same at every run on one machine.

    Args:
        gpus: names of those that trained; none where the processor did.
    """
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),  # macOS has no affinity
        "gpus": list(gpus),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
