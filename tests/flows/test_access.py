"""Password of the Prefect servers that a checkout starts."""

import os
import re
import subprocess
import sys

import pytest
from clones import PROJECT

from flows import access
from sentiflow.system.errors import InputError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_password_is_generated_once_in_a_private_file(folder):
    before = os.umask(0)
    try:
        password = access.password()
    finally:
        os.umask(before)
    assert re.fullmatch(r"admin:[0-9a-f]{64}", password)
    assert access.PASSWORD.stat().st_mode & 0o777 == 0o600
    assert access.password() == access.generated() == password
    assert [file.name for file in (folder / ".prefect").iterdir()] == ["password"]


def test_concurrent_commands_use_the_same_password(folder):
    code = "from flows import access; print(access.password())"
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    started = [subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert {each.communicate()[0].strip() for each in started} == {access.password()}


@pytest.mark.parametrize("content", ["", "\n", "no-user", "user:", "user:two words", "user:\u00e4", "a:b\nc:d"])
def test_file_without_a_password_is_an_error_that_says_how_to_fix_it(content):
    access.PASSWORD.parent.mkdir()
    access.PASSWORD.touch(0o600)
    access.PASSWORD.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"must be one line `user:password`.* delete it"):
        access.password()


def test_password_file_that_others_can_read_is_refused(folder):
    access.password()
    access.PASSWORD.chmod(0o640)
    with pytest.raises(InputError, match=r"can be read by others .* expected 0600"):
        access.password()
