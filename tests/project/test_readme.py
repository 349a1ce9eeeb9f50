import json
from pathlib import Path

from sentiflow import comparison, readme

TOP = Path(__file__).parents[2]


def test_table_of_the_readme_is_that_of_the_committed_results():
    page = (TOP / "README.md").read_text(encoding="utf-8")
    table = comparison.as_summary(json.loads((TOP / "metrics/comparison.json").read_text(encoding="utf-8")))
    assert "nb_svm" in table
    assert readme.with_comparison(page, table) == page, "run `make readme`"


def test_only_what_stands_between_the_markers_is_replaced():
    page = f"before\n{readme.BEGIN}old\n{readme.END}after\n"
    assert readme.with_comparison(page, "new\n") == f"before\n{readme.BEGIN}new\n{readme.END}after\n"
