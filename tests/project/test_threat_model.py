"""Every row of the threat model names tests that exist."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
ATTACKS = (TOP / "docs/threat-model.md").read_text(encoding="utf-8").partition("## Web pages")[2]
ROWS = [
    row for row in re.findall(r"^\| (.+) \|$", ATTACKS, re.MULTILINE) if not row.startswith("---") and not row.endswith("| tests")
]
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


@pytest.mark.parametrize("row", ROWS, ids=[row[:40] for row in ROWS])
def test_row_of_the_threat_model_names_tests_that_exist(row):
    named = TEST.findall(row.rpartition(" | ")[2])
    assert named or row.endswith("the same") or "| the same;" in row
    for file, test in named:
        source = (TOP / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source, f"{file} has no {test}"
