"""Small DVC projects."""

import shutil
import subprocess
import sys

import pytest


def finished(tmp_path_factory, files):
    """A git repository with these files (name: text), in which all stages have run and the results are committed."""
    top = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        for name, text in files.items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(text)
        dvc = [sys.executable, "-m", "dvc"]
        git = (["git", "add", "-A"], ["git", "commit", "-qm", "finished"])
        for command in (["git", "init", "-q"], [*dvc, "init", "-q"], [*dvc, "repro", "-q"], *git):
            subprocess.run(command, cwd=top, check=True, capture_output=True)
        yield top


def copy(project, tmp_path, monkeypatch):
    """A copy of the project with its own caches, as the working folder."""
    shutil.copytree(project, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    return tmp_path / "project"
