"""Where a result comes from: parameters, the hashes that DVC recorded, and the git commit."""

import hashlib
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sentiflow.config.params import Params
from sentiflow.system import terminal
from sentiflow.system.errors import InputError


def stage_entries(lock_file: Path = Path("dvc.lock")) -> dict[str, Any]:
    """What DVC recorded, by stage; nothing where there is no such file yet.

    Raises:
        InputError: if the file is damaged.
    """
    if not lock_file.exists():
        return {}
    try:
        stages: dict[str, Any] = YAML(typ="safe", pure=True).load(lock_file.read_text(encoding="utf-8"))["stages"]
    except (YAMLError, KeyError, TypeError):
        raise InputError(
            f"{lock_file} was cut off or changed by hand; bring the committed one back: git checkout {lock_file}"
        ) from None
    return stages


def stage_entry(name: str, lock_file: Path = Path("dvc.lock")) -> dict[str, Any]:
    """What DVC recorded of a stage: its command, parameters, and the hashes of what it read and wrote.

    Raises:
        InputError: if DVC has not run it; the message names the stages it has.
    """
    stages = stage_entries(lock_file)
    if name not in stages:
        raise InputError(f"{lock_file} has no stage {name!r}, only: {', '.join(stages) or 'none'}; run it: dvc repro {name}")
    return dict(stages[name])


def stage_key(*names: str, lock_file: Path = Path("dvc.lock")) -> str:
    """SHA-256 over what DVC recorded of the stages: another input, parameter, code or output gives another key."""
    entries = {name: stage_entry(name, lock_file) for name in names}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def publication_key(model: str, lock_file: Path = Path("dvc.lock")) -> str:
    """What one trained and evaluated model is published under."""
    return stage_key(f"train@{model}", f"evaluate@{model}", "clean", "tokenize", lock_file=lock_file)


def publications(commit: str) -> dict[str, str]:
    """The keys that the models of a git commit were published under, by model.

    Raises:
        InputError: if the commit has no dvc.lock.
    """
    shown = subprocess.run(["git", "show", f"{commit}:./dvc.lock"], capture_output=True, text=True, check=False)
    if shown.returncode:
        raise InputError(
            f"received {terminal.option('commit', commit)}, which has no dvc.lock; give one of: git log --oneline dvc.lock"
        )
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "dvc.lock"
        lock.write_text(shown.stdout, encoding="utf-8")
        names = [stage.partition("@")[2] for stage in stage_entries(lock) if stage.startswith("evaluate@")]
        return {name: publication_key(name, lock) for name in names}


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
    head = subprocess.run(["git", "rev-parse", "HEAD", "--show-toplevel"], capture_output=True, text=True, check=False)
    if head.returncode:
        return {}
    commit, top = head.stdout.splitlines()
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", "src", "stages", "params.yaml", "dvc.yaml"],
        capture_output=True,
        text=True,
        check=False,
        cwd=top,  # a side run works in a copy that git ignores
    )
    told = {
        "mlflow.source.git.commit": commit,
        "git.commit": commit,
        "git.uncommitted_changes": str(bool(changed.stdout.strip())).lower(),
    }
    origin = subprocess.run(["git", "remote", "get-url", "origin"], capture_output=True, text=True, check=False)
    if origin.returncode == 0 and "://" in origin.stdout:  # no path of this machine's
        told["mlflow.source.git.repoURL"] = re.sub(r"//[^/@]*@", "//", origin.stdout.strip())  # nor a password
    return told
