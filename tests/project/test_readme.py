import json
import subprocess
from pathlib import Path

import pytest

from sentiflow import comparison, readme

TOP = Path(__file__).parents[2]


def committed(name):
    """A file as it was committed: a run on other data or another machine changes the results in the folder."""
    shown = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=TOP, capture_output=True, text=True, check=False)
    if shown.returncode:
        pytest.skip(f"git does not give the committed {name}: {shown.stderr.strip()}")
    return shown.stdout


def test_table_of_the_readme_is_that_of_the_committed_results():
    page = committed("README.md")
    table = comparison.as_summary(json.loads(committed("metrics/comparison.json")))
    assert "nb_svm" in table
    assert readme.with_comparison(page, table) == page, "run `make readme` and commit"


def test_only_what_stands_between_the_markers_is_replaced():
    page = f"before\n{readme.BEGIN}old\n{readme.END}after\n"
    assert readme.with_comparison(page, "new\n") == f"before\n{readme.BEGIN}new\n{readme.END}after\n"
