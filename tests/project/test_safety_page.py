"""Every line of the threat model names a test that exists."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
TABLES = (TOP / "docs/safety.md").read_text(encoding="utf-8").partition("## Web pages")[2].partition("## Figures")[0]
ROWS = [
    row for row in re.findall(r"^\| (.+) \|$", TABLES, re.MULTILINE) if not row.startswith("---") and not row.endswith("| tests")
]
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


@pytest.mark.parametrize("row", ROWS, ids=[row[:40] for row in ROWS])
def test_line_of_the_threat_model_names_tests_that_exist(row):
    named = TEST.findall(row.rpartition(" | ")[2])
    assert named or row.endswith("the same") or "| the same;" in row
    for file, test in named:
        source = (TOP / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source, f"{file} has no {test}"
