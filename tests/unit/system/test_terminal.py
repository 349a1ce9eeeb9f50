import io
import logging
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.system import terminal

STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = "fine \x1b]0;title\x07\x1b[2J\x9b31m\rover \u202egnp.exe\u2066 \x00\x08 \udcff"


@given(st.text(st.characters() | st.sampled_from(HOSTILE)))
def test_control_characters_are_escaped_and_plain_text_is_unchanged(text):
    shown = terminal.printable(text)
    assert not STEERS.search(shown)
    assert shown.count("\n") == text.count("\n")
    assert terminal.printable(shown) == shown
    shown.encode()


@pytest.mark.parametrize("text", ["A dull film, but I loved it.", "caf\u00e9\n\t\u4e2d\u6587 \U0001f600", ""])
def test_printable_text_is_unchanged(text):
    assert terminal.printable(text) == text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_any_text_can_be_printed_in_any_encoding(encoding, monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding))
    terminal.tell(f"{HOSTILE} \u4e2d", flush=True)
    assert not STEERS.search(out.getvalue().decode(encoding).removesuffix("\n"))


def test_errors_and_log_lines_are_escaped():
    script = (
        "from sentiflow.system import stage\n"
        "from sentiflow.system.errors import InputError\n"
        "def main():\n"
        f"    stage.log.warning('passed over %s', {HOSTILE!r})\n"
        f"    raise InputError({HOSTILE!r})\n"
        "stage.run(main)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=60)
    assert ended.returncode == 1
    lines = ended.stderr.decode().splitlines()
    assert [line.partition("fine")[0] for line in lines] == ["  passed over ", "error: "]
    assert not any(STEERS.search(line) for line in lines)


def test_existing_log_handlers_are_only_replaced_with_force():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        own = logging.NullHandler()
        root.handlers[:] = [own]
        terminal.show_log()
        assert root.handlers == [own]
        terminal.show_log(force=True)
        assert root.handlers != [own]
    finally:
        root.handlers[:] = before
        root.setLevel(level)
