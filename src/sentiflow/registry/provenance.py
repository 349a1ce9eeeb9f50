"""Where a result comes from: parameters, the hashes that DVC recorded, and the git commit."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentiflow.config.params import Params
from sentiflow.system import dvc_lock, git, urls
from sentiflow.system.errors import InputError


def stage_entry(name: str, stages: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What DVC recorded for a stage: its command, parameters, and the hashes of its inputs and outputs.

    Args:
        stages: of a dvc.lock; by default of the one in the working folder.
    """
    stages = dvc_lock.read() if stages is None else stages
    if name not in stages:
        raise InputError(f"dvc.lock has no stage {name!r}, only: {', '.join(stages) or 'none'}; run it: dvc repro {name}")
    return dict(stages[name])


def stage_key(*names: str, stages: Mapping[str, Any] | None = None) -> str:
    """SHA-256 of what DVC recorded for the stages; changes with any input, parameter, code or output."""
    entries = {name: stage_entry(name, stages) for name in names}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def publication_key(model: str, stages: Mapping[str, Any] | None = None) -> str:
    """Key under which a trained and evaluated model is published."""
    return stage_key(f"train@{model}", f"evaluate@{model}", "clean", "tokenize", stages=stages)


def publications(commit: str) -> set[str]:
    """Keys under which the models of a git commit are published."""
    advice = "give one of: git log --oneline dvc.lock"
    try:
        stages = dvc_lock.of_commit(commit)
    except ValueError:
        raise InputError(f"received {commit}, whose dvc.lock is damaged; {advice}") from None
    if stages is None:
        raise InputError(f"received {commit}, which has no dvc.lock; {advice}")
    names = [stage.removeprefix("evaluate@") for stage in stages if stage.startswith("evaluate@")]
    return {publication_key(name, stages) for name in names}


def flat_params(p: Params, model: str) -> dict[str, Any]:
    """All parameters of one model by dotted name; its own settings without a prefix."""
    flat = {
        "seed": p.seed,
        "architecture": model,
        "network": p.run[model],
        "download.source": p.download.source,
        "download.sample": p.download.sample,
    }
    for section, values in {"clean": p.clean, "split": p.split, "tokenize": p.tokenize, "train": p.train}.items():
        flat |= {f"{section}.{name}": value for name, value in values.model_dump().items()}
    settings: dict[str, Any] = p.models[model]
    return flat | settings


def of_model(model: str) -> dict[str, str]:
    """Hashes of reviews, tokens and model in dvc.lock; in a git repository with a commit also `commit`, `dirty`, `repository`."""
    return {
        "reviews": _hash_of_output("download", "data/reviews"),
        "tokens": _hash_of_output("tokenize", "data/tokens"),
        "model": _hash_of_output(f"train@{model}", f"models/{model}"),
    } | _commit()


def _hash_of_output(stage: str, path: str) -> str:
    outputs = stage_entry(stage)["outs"]
    return next(str(output["md5"]) for output in outputs if output["path"] == path)


def _commit() -> dict[str, str]:
    head = git.ask_if_possible("rev-parse", "HEAD", "--show-toplevel")
    if head is None:
        return {}
    commit, top = head.splitlines()
    code = ("src", "stages", "params.yaml", "dvc.yaml")
    # in the top folder: a side run works in a copy that git ignores
    changed = git.ask_if_possible("status", "--porcelain", "--untracked-files=no", "--", *code, folder=Path(top))
    found = {"commit": commit, "dirty": str(bool((changed or "").strip())).lower()}
    origin = git.ask_if_possible("remote", "get-url", "origin")
    if origin and "://" in origin:  # not a path on this machine
        found["repository"] = urls.without_user(origin.strip())
    return found
