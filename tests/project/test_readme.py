import json
import subprocess
from pathlib import Path

import pytest

from sentiflow.cli import readme
from sentiflow.evaluation import comparison
from sentiflow.models import networks

TOP = Path(__file__).parents[2]


def committed(name):
    """The committed file, because a run on other data or another machine changes the one in the folder."""
    shown = subprocess.run(["git", "show", f"HEAD:{name}"], cwd=TOP, capture_output=True, text=True, check=False)
    if shown.returncode:
        pytest.skip(f"git cannot show the committed {name}: {shown.stderr.strip()}")
    return shown.stdout


def test_table_of_the_readme_shows_the_committed_results():
    page = committed("README.md")
    table = comparison.as_summary(json.loads(committed("metrics/comparison.json")))
    assert "nb_svm" in table
    assert "ngram_mean" in table
    assert readme.filled(page, "comparison", table) == page, "run `python -m sentiflow.cli.readme` and commit"


def test_table_of_models_shows_params_yaml():
    page = (TOP / "README.md").read_text(encoding="utf-8")
    table = readme.models()
    assert table.count("\n") == 2 + len(networks.NETWORKS)
    assert "001-multiclass" in table
    assert readme.filled(page, "models", table) == page, "run `python -m sentiflow.cli.readme` and commit"


def test_only_the_text_between_the_markers_is_replaced():
    page = "<!-- a: begin -->\nold\n<!-- a: end -->\n<!-- b: begin -->\nold\n<!-- b: end -->\n"
    assert readme.filled(page, "b", "new\n") == page.replace("b: begin -->\nold", "b: begin -->\nnew")
