"""The worked examples of docs/extend do what the pages say."""

import re
import sqlite3
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from sentiflow.config.params import Promotion
from sentiflow.config.schema import Section
from sentiflow.data import sources
from sentiflow.data.sources.source import Files, Source
from sentiflow.evaluation import metrics
from sentiflow.models import networks, settings, training
from sentiflow.registry import promotion_rules

TOP = Path(__file__).parents[2]


def blocks(page, language):
    """The code blocks of a page, in order."""
    text = (TOP / f"docs/extend/{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run_in(module, code):
    """The names that the code defines when it is added to a module."""
    names = dict(vars(module))
    exec(code, names)
    return SimpleNamespace(**names)


def with_models(tmp_path, run, models):
    """params.yaml with more lines under `run:` and `models:`."""
    text = (TOP / "params.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^run:.*\n", lambda line: line[0] + run, text, count=1, flags=re.MULTILINE)
    text = re.sub(r"^models:.*\n", lambda line: line[0] + models, text, count=1, flags=re.MULTILINE)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    return settings.load(tmp_path / "params.yaml")


def test_model_of_the_page_has_valid_settings(tmp_path):
    p = with_models(tmp_path, *blocks("model", "yaml"))
    assert p.run["lstm_wide"] == "recurrent"
    assert p.models["lstm_wide"]["bidirectional"]


def test_network_of_the_page_builds_and_counts_its_weights(tmp_path, monkeypatch):
    [code] = blocks("network", "python")
    module = types.ModuleType(f"{networks.__name__}.word_mean")
    exec(code, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(networks, "NETWORKS", (*networks.NETWORKS, "word_mean"))
    p = with_models(tmp_path, "  means: word_mean\n", *blocks("network", "yaml"))
    training.use_threads(p.train.threads)  # cannot change after the first layer is built, and tests of stages set it too
    chosen = settings.of(p, "means", "word_mean")
    for classes, outputs in ((2, 1), (3, 3)):
        built = module.build(chosen, vocabulary_size=50, classes=classes)
        assert built.count_params() == chosen.weights(vocabulary_size=50, classes=classes)
        assert built.output_shape == (None, outputs)


def test_source_of_the_page_gives_its_reviews_and_notices_a_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module_code, section_code = blocks("source", "python")
    source = run_in(types.ModuleType("sqlite_source"), module_code)
    assert isinstance(source.SOURCE, Source)
    [section] = [
        each
        for each in run_in(
            sys.modules[Section.__module__], "from sentiflow.config.params import *\n" + section_code
        ).__dict__.values()
        if isinstance(each, type) and each.__name__ == "SqliteSource"
    ]
    values = yaml.safe_load("\n".join(blocks("source", "yaml")))["sqlite"]
    p = SimpleNamespace(sqlite=section.model_validate(values))
    Path(values["location"]).parent.mkdir(parents=True)
    database = sqlite3.connect(values["location"])
    database.execute("CREATE TABLE reviews (text, label)")
    database.executemany("INSERT INTO reviews VALUES (?, ?)", [(f"film {i}", i % 3) for i in range(30)])
    database.commit()
    kept, rejected, _ = sources.sort(source.SOURCE.find(p, tmp_path), 1000)
    assert kept["label"].value_counts().to_dict() == {"negative": 10, "positive": 10}
    assert len(rejected) == 10  # of the label 2, which is not mapped
    content = source.SOURCE.content(p)
    assert isinstance(content, Files)
    before = content.fingerprint()
    database.execute("DELETE FROM reviews WHERE label = 2")
    database.commit()
    database.close()
    assert content.fingerprint() != before


def test_metric_of_the_page_has_its_range_and_direction():
    brier = run_in(metrics, *blocks("metric", "python")).BRIER
    labels = np.array([0, 1, 2])
    assert brier.of_reviews(labels, np.eye(3)[labels]).mean() == brier.lowest
    assert brier.of_reviews(labels, np.eye(3)[[1, 2, 0]]).mean() == brier.highest
    assert not brier.higher_is_better


def test_rule_of_the_page_passes_and_fails_by_its_limit():
    rule = run_in(promotion_rules, *blocks("promotion-rule", "python")).UNSURE
    [value] = blocks("promotion-rule", "yaml")
    limit = yaml.safe_load(value)["promotion"][rule.key]
    assert rule.key not in Promotion.model_fields
    for confidence, passes in ((0.9, True), (0.55, False)):
        answers = SimpleNamespace(probabilities=np.array([[confidence, 1 - confidence]] * 4))
        outcome = rule.outcome(SimpleNamespace(answers=answers, limits=SimpleNamespace(unsure=limit)))
        assert outcome.state == ("passes" if passes else "fails")


def test_deployment_of_the_page_has_the_keys_of_those_in_prefect_yaml():
    shipped = yaml.safe_load((TOP / "prefect.yaml").read_text(encoding="utf-8"))
    [text] = blocks("schedule", "yaml")
    [added] = yaml.safe_load("pool: &pool {name: sentiflow}\ndeployments:\n" + text)["deployments"]
    nightly = next(each for each in shipped["deployments"] if each["name"] == "nightly")
    assert added.keys() == nightly.keys()
    assert added["entrypoint"] == nightly["entrypoint"]
    assert added["schedules"][0].keys() == nightly["schedules"][0].keys()
    assert set(added["parameters"]) <= {"models", "force", "promote"}


@pytest.mark.parametrize("rule", promotion_rules.RULES, ids=lambda rule: rule.name)
def test_every_rule_is_described(rule):
    assert f"| **{rule.name}** |" in (TOP / "docs/promotion.md").read_text(encoding="utf-8")
