"""Every model and every recipe, through the two commands of the README, on a small sample."""

import re

import pytest
from clones import fresh, run, sentiflow

from sentiflow.config import params

pytestmark = pytest.mark.slow
SMALL = {
    "download.source": "package",
    "download.sample": 240,
    "evaluate.resamples": 100,
    "explain.reviews": 20,
}
TINY = {"length": 20, "epochs": 2}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    shipped = params.load().models
    short = {f"models.{name}.{key}": value for name in shipped for key, value in TINY.items() if key in shipped[name]}
    return fresh(tmp_path_factory.mktemp("clone"), SMALL | short)


def test_all_models_runs_every_model_and_leaves_the_project_alone(clone):
    said = sentiflow(clone, "all-models").stdout
    page = (clone / "reports/all.md").read_text(encoding="utf-8")
    for name in params.load().networks:
        assert re.search(rf"^\| {name} ", page, re.MULTILINE), name
        assert name in said
        assert name in (clone / "reports/all.html").read_text(encoding="utf-8")
    assert run(["git", "status", "--porcelain"], clone).stdout == ""
    assert (clone / "mlflow.db").exists()


def test_make_recipes_runs_every_recipe_whose_data_are_at_hand(clone):
    said = sentiflow(clone, "recipes").stdout
    page = (clone / "reports/recipes.md").read_text(encoding="utf-8")
    assert "197,185 weights, as the document" in page
    assert "293,953 weights, as the document" in page
    assert len(re.findall(r"^\| 00\d-", page.split("## How each ran")[0], re.MULTILINE)) == 10
    assert "001-multiclass: needs" in page
    assert "of 10 recipes" in said
