"""Little DVC projects to run and to break."""

import shutil
import subprocess
import sys

import pytest


def finished(tmp_path_factory, files):
    """A project of these files (name: text), as a git repository whose stages have run and whose results are committed."""
    top = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        for name, text in files.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text)
        dvc = [sys.executable, "-m", "dvc"]
        commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "finished"]
        for command in (["git", "init", "-q"], [*dvc, "init", "-q"], [*dvc, "repro", "-q"], ["git", "add", "-A"], commit):
            subprocess.run(command, cwd=top, check=True, capture_output=True)
        yield top


def copy(project, tmp_path, monkeypatch):
    """A copy of the project, which becomes the working folder, with caches of its own."""
    shutil.copytree(project, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    return tmp_path / "project"
