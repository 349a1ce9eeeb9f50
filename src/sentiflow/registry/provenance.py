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
    """What DVC recorded of a stage: its command, parameters, and the hashes of what it read and wrote.

    Args:
        stages: of a dvc.lock; those of this folder's if none are given.
    """
    stages = dvc_lock.read() if stages is None else stages
    if name not in stages:
        raise InputError(f"dvc.lock has no stage {name!r}, only: {', '.join(stages) or 'none'}; run it: dvc repro {name}")
    return dict(stages[name])


def stage_key(*names: str, stages: Mapping[str, Any] | None = None) -> str:
    """SHA-256 over what DVC recorded of the stages: another input, parameter, code or output gives another key."""
    entries = {name: stage_entry(name, stages) for name in names}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def publication_key(model: str, stages: Mapping[str, Any] | None = None) -> str:
    """What one trained and evaluated model is published under."""
    return stage_key(f"train@{model}", f"evaluate@{model}", "clean", "tokenize", stages=stages)


def publications(commit: str) -> dict[str, str]:
    """The keys that the models of a git commit were published under, by model."""
    advice = "give one of: git log --oneline dvc.lock"
    try:
        stages = dvc_lock.of_commit(commit)
    except ValueError:
        raise InputError(f"received {commit}, whose dvc.lock is damaged; {advice}") from None
    if stages is None:
        raise InputError(f"received {commit}, which has no dvc.lock; {advice}")
    names = [stage.partition("@")[2] for stage in stages if stage.startswith("evaluate@")]
    return {name: publication_key(name, stages) for name in names}


def flat_params(p: Params, model: str) -> dict[str, Any]:
    """All that shaped one model, by dotted name; its own settings without a prefix."""
    shared = {
        "seed": p.seed,
        "architecture": model,
        "network": p.run[model],
        "download.source": p.download.source,
        "download.sample": p.download.sample,
        **_prefixed("clean", p.clean.model_dump()),
        **_prefixed("split", p.split.model_dump()),
        **_prefixed("tokenize", p.tokenize.model_dump()),
        **_prefixed("train", p.train.model_dump()),
    }
    settings: dict[str, Any] = p.models[model]
    return shared | settings


def _prefixed(section: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for name, value in values.items()}


def tags(model: str) -> dict[str, str]:
    """The hashes of reviews, tokens and model as dvc.lock has them, and the commit."""
    made = {
        "reviews": _hash_of_output("download", "data/reviews"),
        "tokens": tokens(),
        "model": _hash_of_output(f"train@{model}", f"models/{model}"),
    }
    return {f"dvc.{name}": value for name, value in made.items()} | _commit()


def tokens() -> str:
    """The hash of the reviews as word ids, as dvc.lock has it."""
    return _hash_of_output("tokenize", "data/tokens")


def _hash_of_output(stage: str, path: str) -> str:
    outputs = stage_entry(stage)["outs"]
    return next(str(output["md5"]) for output in outputs if output["path"] == path)


def _commit() -> dict[str, str]:
    """MLflow's own tags for commit and repository, and whether files differ from it; nothing where there is no commit.

    The commit stands there twice, since MLflow's page of a version hides its own tags.
    """
    head = git.ask_if_possible("rev-parse", "HEAD", "--show-toplevel")
    if head is None:
        return {}
    commit, top = head.splitlines()
    code = ("src", "stages", "params.yaml", "dvc.yaml")
    # at the top: a side run works in a copy that git ignores
    changed = git.ask_if_possible("status", "--porcelain", "--untracked-files=no", "--", *code, folder=Path(top))
    told = {
        "mlflow.source.git.commit": commit,
        "git.commit": commit,
        "git.uncommitted_changes": str(bool((changed or "").strip())).lower(),
    }
    origin = git.ask_if_possible("remote", "get-url", "origin")
    if origin and "://" in origin:  # no path on this machine
        told["mlflow.source.git.repoURL"] = urls.without_user(origin.strip())
    return told
