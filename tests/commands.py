"""Run a command of the program in this process."""

import pytest

from sentiflow.cli import program
from sentiflow.system import entry_point


def run(capsys, *words):
    """Exit status, standard output and standard error of `sentiflow WORDS`."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended, entry_point.handled():
        program.app([str(word) for word in words], prog_name="sentiflow")
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err
