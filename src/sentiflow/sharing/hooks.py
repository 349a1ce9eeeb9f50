"""Have git check the remote before a push: a pre-push hook that runs `check_remote` on the commits about to be pushed."""

import shlex
from pathlib import Path

from sentiflow.system import files, git
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
    """Writes the hook and gives its place."""
    command = COMMAND.format(folder=shlex.quote(git.ask("rev-parse", "--show-prefix").strip() or "."))
    configured = git.ask("config", "--default", "", "core.hooksPath").strip()
    hook = Path(git.ask("rev-parse", "--git-path", "hooks").strip()) / "pre-push"
    by_hand = f"nothing was written. To have it run there, add these lines to {hook}, and make that executable:\n{command}"
    if configured:
        raise InputError(
            f"git takes its hooks from {configured} (core.hooksPath), which may belong to other projects too; {by_hand}"
        )
    if hook.exists() and MARK not in hook.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"there is a hook already, {hook}, which is not ours; {by_hand}")
    with files.replacing(hook) as partial:
        partial.write_text(SCRIPT.format(mark=MARK, command=command), encoding="utf-8")
        partial.chmod(0o755)
    return hook
