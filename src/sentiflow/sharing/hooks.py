"""Have git check the remote before a push: a pre-push hook that runs `check_remote` on the commits about to be pushed."""

import shlex
import subprocess
from pathlib import Path

from sentiflow.system.errors import InputError

MARK = "# sentiflow: refuses a push of commits whose data and models the remote lacks"
SCRIPT = """\
#!/bin/sh
{mark}; `sentiflow hooks` wrote it
{command}
"""
# Git runs a hook at the top of the repository, which may lie above the project.
COMMAND = """\
cd ./{folder} || exit 1
test -x .venv/bin/python || {{ echo "error: no .venv here; make setup, or push all the same: git push --no-verify" >&2; exit 1; }}
exec .venv/bin/python -m sentiflow remote check --pushed "$1"\
"""


def install() -> Path:
    """Writes the hook and gives its place.

    Raises:
        InputError: if there is no git repository, or a hook that is not ours, or hooks lie in a folder that others share.
    """
    command = COMMAND.format(folder=shlex.quote(_git("rev-parse", "--show-prefix") or "."))
    configured = _git("config", "--default", "", "core.hooksPath")
    hook = Path(_git("rev-parse", "--git-path", "hooks")) / "pre-push"
    by_hand = f"nothing was written. To have it run there, add these lines to {hook}, and make that executable:\n{command}"
    if configured:
        raise InputError(
            f"git takes its hooks from {configured} (core.hooksPath), which may belong to other projects too; {by_hand}"
        )
    if hook.exists() and MARK not in hook.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"there is a hook already, {hook}, which is not ours; {by_hand}")
    hook.parent.mkdir(parents=True, exist_ok=True)
    partial = hook.with_name(f".{hook.name}.partial")
    partial.write_text(SCRIPT.format(mark=MARK, command=command), encoding="utf-8")
    partial.chmod(0o755)
    partial.replace(hook)
    return hook


def _git(*arguments: str) -> str:
    try:
        ended = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InputError("git is not installed, and the hook is git's") from None
    if ended.returncode:
        raise InputError(f"git {arguments[0]} failed: {ended.stderr.strip()}; run this in a clone of the project")
    return ended.stdout.strip()
