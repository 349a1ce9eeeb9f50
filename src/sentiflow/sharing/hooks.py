"""Install git's pre-push hook, which runs `sentiflow remote check` on the commits about to be pushed."""

import shlex
from pathlib import Path

from sentiflow.system import files, git
from sentiflow.system.errors import InputError

MARK = "# sentiflow: refuses a push of commits whose data and models the remote lacks"
# Git runs a hook in the top folder of the repository, which may be above the project.
COMMAND = """\
cd ./{folder} || exit 1
test -x .venv/bin/python || {{ echo "error: no .venv here; run make setup, or git push --no-verify" >&2; exit 1; }}
exec .venv/bin/python -m sentiflow remote check --pushed "$1"\
"""


def install() -> Path:
    """Write the hook. Returns its path."""
    command = COMMAND.format(folder=shlex.quote(git.ask("rev-parse", "--show-prefix").strip() or "."))
    hook = Path(git.ask("rev-parse", "--git-path", "hooks").strip()) / "pre-push"
    reason = None
    if shared := git.ask("config", "--default", "", "core.hooksPath").strip():
        reason = f"git takes its hooks from {shared} (core.hooksPath), which may belong to other projects too"
    elif hook.exists() and MARK not in hook.read_text(encoding="utf-8", errors="replace"):
        reason = f"{hook} exists and was not written by sentiflow"
    if reason:
        raise InputError(f"{reason}; nothing was written. Add these lines to {hook} and make it executable:\n{command}")
    with files.replacing(hook) as partial:
        partial.write_text(f"#!/bin/sh\n{MARK}; written by `sentiflow hooks`\n{command}\n", encoding="utf-8")
        partial.chmod(0o755)
    return hook
