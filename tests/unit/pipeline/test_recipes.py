import subprocess
import sys
from pathlib import Path

import dvc_projects
import pytest
from ruamel.yaml import YAML

from sentiflow.config import params
from sentiflow.evaluation import comparison
from sentiflow.models import networks, training_record
from sentiflow.pipeline import isolated_run, recipes
from sentiflow.system.errors import InputError

TOP = Path(__file__).parents[3]
FILE = TOP / "src/sentiflow/pipeline/recipes.yaml"
BOOK = recipes.read(FILE)
NAMES = {
    "000-lstm", "000-cnn-lstm", "001-ffnn", "001-rnn", "001-attention", "001-multiclass", "002-baseline", "002-tuned",
    "003-lstm", "004-rnn", "004-lstm",
}  # fmt: skip
PACKAGE_ONLY = {"package": None}
ALL_AT_HAND = {"package": None, "csv": "a.csv", "aclimdb": "aclImdb", "tsv": "a.tsv"}

# Settings in which params.yaml differs from the recipe on purpose, and why.
DELIBERATE: dict[tuple[str, str], str] = {}

every_recipe = pytest.mark.parametrize("name", BOOK.recipes)


def projects_params():
    return params.load(TOP / "params.yaml")


# what the documents did


def test_recipes_are_complete():
    assert set(BOOK.recipes) == NAMES


@every_recipe
def test_recipe_has_one_published_accuracy(name):
    assert 0 < recipes._published(name, BOOK.recipes[name])["accuracy"] < 1


def test_every_published_figure_belongs_to_a_recipe():
    table = comparison.published()
    of_recipes = table[table["recipe"].str.match(r"00\d-")]
    assert set(of_recipes["recipe"]) == NAMES


@every_recipe
def test_params_yaml_has_the_settings_of_the_recipe(name):
    recipe = BOOK.recipes[name]
    here = projects_params().models[recipe.model]
    differing = {key for key, value in recipe.settings.items() if here[key] != value}
    assert differing == {key for model, key in DELIBERATE if model == recipe.model}


@pytest.mark.parametrize("name", [name for name, recipe in BOOK.recipes.items() if recipe.weights])
def test_model_has_the_published_number_of_weights(name):
    recipe = BOOK.recipes[name]
    settings = networks.settings_class(recipe.network).model_validate(recipe.settings)
    build = networks.module(recipe.network).build
    model = build(settings, vocabulary_size=settings.vocabulary_size, classes=2)
    assert model.count_params() == recipe.weights


def broken(tmp_path, change):
    values = YAML(typ="safe", pure=True).load(FILE.read_text())
    change(values["recipes"]["003-lstm"])
    file = tmp_path / "recipes.yaml"
    with file.open("w") as opened:
        YAML().dump(values, opened)
    return file


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda recipe: recipe["given"].update(unitz=3), "unitz"),
        (lambda recipe: recipe["given"].pop("units"), "units"),
        (lambda recipe: recipe["given"].update(units="many"), "units"),
        (lambda recipe: recipe["chosen"].update(units=128), "both given and chosen: units"),
        (lambda recipe: recipe.update(network="lstn"), "lstn"),
        (lambda recipe: recipe["split"].update(test=None), "test cannot be None"),
        (lambda recipe: recipe["split"].update(method="official"), "test cannot be 0.2"),
        (lambda recipe: recipe.update(note="new"), "note"),
    ],
)
def test_invalid_recipe_is_an_error_that_names_file_and_key(change, named, tmp_path):
    with pytest.raises(InputError) as error:
        recipes.read(broken(tmp_path, change))
    assert str(error.value).startswith(f"{tmp_path}/recipes.yaml cannot be used:\n")
    assert "validation error" not in str(error.value)
    assert "003-lstm" in str(error.value)
    assert named in str(error.value)


def test_missing_setting_of_a_recipe_is_named_in_the_error(tmp_path):
    with pytest.raises(InputError) as error:
        recipes.read(broken(tmp_path, lambda recipe: recipe["given"].pop("units")))
    assert str(error.value).endswith(
        "\n  recipes.003-lstm: given and chosen must be the settings of recurrent, as in models/networks/recurrent.py: "
        "units: missing; add this key"
    )


def test_invalid_yaml_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "recipes.yaml").write_text("recipes: [\n")
    with pytest.raises(InputError, match=r"recipes\.yaml is not valid YAML: [^\n]+; correct it"):
        recipes.read(tmp_path / "recipes.yaml")


# which run together


def members(found):
    groups, _ = recipes.grouped(BOOK, found)
    return {group.name: set(group.recipes) for group in groups}


def test_with_the_package_only_few_runs_are_enough_and_the_recipe_of_tweets_is_not_run():
    assert members(PACKAGE_ONLY) == {
        "recipes-package-80-10-10": NAMES - {"001-multiclass", "003-lstm", "004-rnn"},
        "recipes-package-80-10-10-seed-3": {"004-rnn"},
        "recipes-package-64-16-20-no-negations": {"003-lstm"},
    }
    _, not_run = recipes.grouped(BOOK, PACKAGE_ONLY)
    assert list(not_run) == ["001-multiclass"]
    assert "download.tsv.location" in not_run["001-multiclass"]


def test_with_all_data_each_recipe_runs_on_its_own_data():
    assert members(ALL_AT_HAND) == {
        "recipes-aclimdb-official-20": {"000-lstm", "000-cnn-lstm", "002-baseline", "002-tuned"},
        "recipes-aclimdb-official-10": {"004-lstm"},
        "recipes-aclimdb-official-10-seed-3": {"004-rnn"},
        "recipes-package-80-10-10": {"001-ffnn", "001-rnn", "001-attention"},
        "recipes-tsv-80-10-10": {"001-multiclass"},
        "recipes-csv-64-16-20-no-negations": {"003-lstm"},
    }
    groups, not_run = recipes.grouped(BOOK, ALL_AT_HAND)
    assert {group.source: group.location for group in groups} == ALL_AT_HAND
    assert not_run == {}


def test_recipes_that_share_a_model_do_not_share_a_run():
    again = BOOK.recipes["001-ffnn"]
    book = BOOK.model_copy(update={"recipes": {"one": again, "two": again, "other": BOOK.recipes["001-rnn"], "three": again}})
    groups, _ = recipes.grouped(book, PACKAGE_ONLY)
    assert {group.name: list(group.recipes) for group in groups} == {
        "recipes-package-80-10-10": ["one", "other"],
        "recipes-package-80-10-10-2": ["two"],
        "recipes-package-80-10-10-3": ["three"],
    }


@pytest.mark.parametrize("found", [PACKAGE_ONLY, ALL_AT_HAND], ids=["package", "all"])
def test_changed_params_are_valid_and_give_each_recipe_its_settings(found, tmp_path):
    groups, _ = recipes.grouped(BOOK, found)
    for group in groups:
        file = tmp_path / f"{group.name}.yaml"
        file.write_text(isolated_run.with_changes((TOP / "params.yaml").read_text(), group.changes(BOOK.train)))
        p = params.load(file)
        assert p.run == {recipe.model: recipe.network for recipe in group.recipes.values()}
        assert (p.download.source, p.split.valid, p.train.patience) == (group.source, group.split.valid, None)
        for recipe in group.recipes.values():
            assert p.models[recipe.model] == recipe.settings


def test_recipes_are_independent_of_the_projects_params(tmp_path):
    own = {"split.valid": 0.3, "train.patience": 1, "models.lstm.padding": "post", "models.lstm.epochs": 1}
    own |= {"clean.keep_negations": True, "split.method": "hash", "tokenize.minimum_count": 9, "download.source": "csv"}
    groups, _ = recipes.grouped(BOOK, PACKAGE_ONLY)
    [group] = [group for group in groups if "003-lstm" in group.recipes]
    text = (TOP / "params.yaml").read_text()
    changes = group.changes(BOOK.train)
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(isolated_run.with_changes(text, changes))
    second.write_text(isolated_run.with_changes(isolated_run.with_changes(text, own), changes))
    assert params.load(first) == params.load(second)


def test_available_sources_are_those_whose_file_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    download = projects_params().download
    assert recipes.at_hand(download) == PACKAGE_ONLY
    folder = Path("data/external")
    (folder / "aclImdb").mkdir(parents=True)
    Path(download.csv.location).write_text("")
    assert recipes.at_hand(download) == {"package": None, "csv": download.csv.location, "aclimdb": str(folder / "aclImdb")}
    Path(download.aclimdb.location).write_text("")
    Path(download.tsv.location).write_text("")
    assert recipes.at_hand(download)["aclimdb"] == download.aclimdb.location
    assert recipes.at_hand(download)["tsv"] == download.tsv.location


# the page


def scores(accuracy):
    values = {"accuracy_score": accuracy, "f1_score": accuracy - 0.01}
    return values | {f"{name}_{end}": v + step for name, v in values.items() for end, step in (("low", -0.01), ("high", 0.01))}


def made_up(**more):
    values = {
        "source": "package",
        "official": False,
        "rows": {"train": 20000, "valid": 2500, "test": 2500},
        "test": scores(0.86),
        "weights": 123456,
        "epochs": 5,
        "kept": 3,
        "kept_accuracy": 0.87,
        "last_accuracy": 0.85,
        "seconds": [30.0, 10.0, 12.0],
        "environment": {
            "processor": "Processor X", "cores": 2, "gpus": [], "system": "Linux x86_64", "python": "3.11.9",
            "libraries": {"tensorflow": "2.21.0", "keras": "3.15.1"},
        },
    }  # fmt: skip
    return recipes.Result(**values | more)


def written(results, not_run=(), **changes):
    return recipes.page(BOOK, results, dict(not_run), projects_params().model_copy(update=changes))


def row_of(name, page, table):
    lines = [line for line in page.splitlines() if line.startswith(f"| {name} ")]
    header = [line for line in page.splitlines() if line.startswith("| recipe ")][table]
    return dict(zip(*([cell.strip() for cell in line.strip("|").split("|")] for line in (header, lines[table])), strict=True))


def of(page, start):
    [line] = [line for line in page.splitlines() if line.startswith(start)]
    return line


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(0.8558, recipes.REACHED), (0.99, recipes.REACHED), (0.8459, recipes.WITHIN), (0.8457, recipes.BELOW), (0.1, recipes.BELOW)],
)
def test_verdict_compares_the_published_accuracy_with_our_interval(accuracy, expected):
    assert recipes.verdict(0.8558, scores(accuracy)) == expected
    page = written({"003-lstm": made_up(test=scores(accuracy))})
    assert row_of("003-lstm", page, 0)["verdict"] == expected


def test_page_has_our_figures_next_to_the_published_ones():
    row = row_of("000-lstm", written({"000-lstm": made_up()}), 0)
    assert row == {
        "recipe": "000-lstm",
        "model": "lstm_dropout",
        "published accuracy": "0.8280",
        "ours on test (interval)": "0.8600 (0.8500 to 0.8700)",
        "published F1": "0.8366",
        "our F1": "0.8500",
        "verdict": recipes.REACHED,
    }
    assert row_of("002-tuned", written({"002-tuned": made_up()}), 0)["published F1"] == ""


def test_recipe_with_three_classes_has_the_published_figures_for_three_classes():
    row = row_of("001-multiclass", written({"001-multiclass": made_up(source="tsv")}), 0)
    assert (row["published accuracy"], row["published F1"]) == ("0.7961", "0.7596")


def test_page_has_the_training_of_each_recipe():
    row = row_of("000-lstm", written({"000-lstm": made_up()}), 1)
    assert row == {
        "recipe": "000-lstm",
        "data": "package",
        "train": "20,000",
        "valid": "2,500",
        "test": "2,500",
        "weights": "123,456",
        "epochs": "5",
        "kept": "3",
        "valid accuracy of kept": "0.8700",
        "of last": "0.8500",
        "seconds per epoch": "12.0",
        "published seconds": "400",
    }


def test_restored_model_has_no_training_time():
    page = written({"001-rnn": made_up(seconds=None)})
    row = row_of("001-rnn", page, 1)
    assert (row["seconds per epoch"], row["published seconds"]) == ("restored", "")


@pytest.mark.parametrize(
    ("name", "result", "facts"),
    [
        ("003-lstm", made_up(rows={"train": 16000}), ["not on the CSV of 50,000", "16,000 reviews, the document on 32,000"]),
        ("000-lstm", made_up(), ["not on all of aclImdb", "20,000 reviews, as the document"]),
        ("001-attention", made_up(), ["our own random split", "as the document"]),
        ("002-baseline", made_up(source="aclimdb", official=True), ["the test reviews are those of the document"]),
        ("001-multiclass", made_up(source="tsv"), ["the document does not give its number"]),
        ("004-rnn", made_up(weights=197185), ["197,185 weights, as the document"]),
        ("004-rnn", made_up(weights=5), ["5 weights, the document's 197,185"]),
    ],
)
def test_page_lists_the_differences_from_the_document(name, result, facts):
    rows = {"train": 1, "valid": 1, "test": 1} | result.rows
    line = of(written({name: recipes.Result(**vars(result) | {"rows": rows})}), f"- {name}: ")
    for fact in [*facts, BOOK.recipes[name].differs]:
        assert fact in line


def test_page_lists_given_and_chosen_settings():
    line = of(written({"004-rnn": made_up()}), "- 004-rnn (`stacked_rnn`): ")
    given, chosen = line.split("Not given, chosen here: ")
    assert "mask_zero true" in given
    assert "cell rnn" in given
    assert "batch 512" in given
    assert chosen == (
        "view content, minimum_count 1, padding pre, truncating pre, punctuation false, learning_rate 0.001, "
        "bidirectional false, "
        "spatial_dropout 0.0. Negations are kept. Seed 3."
    )
    assert of(written({"003-lstm": made_up()}), "- 003-lstm (`lstm`): ").endswith(" Negations are removed.")
    assert "vocabulary_size null" in of(written({"001-rnn": made_up()}), "- 001-rnn (`rnn`): ")


def test_page_names_equal_environments_once():
    machine = "trained on Processor X, 2 cores, no GPU, Linux x86_64; Python 3.11.9, keras 3.15.1, tensorflow 2.21.0."
    page = written({"001-rnn": made_up(), "001-ffnn": made_up()})
    assert of(page, "Trained on ").lower() == machine.lower()
    other = made_up(environment=made_up().environment | {"gpus": ["GPU Y"]})
    page = written({"001-rnn": made_up(), "001-ffnn": other})
    assert of(page, "001-rnn: ") == f"001-rnn: {machine}"
    assert "GPU Y" in of(page, "001-ffnn: ")


def test_page_lists_recipes_that_did_not_run_with_the_reason():
    page = written({"001-rnn": made_up()}, {"001-multiclass": "needs tweets"})
    assert "## Not run\n\n- 001-multiclass: needs tweets.\n" in page
    assert "## Not run" not in written({"001-rnn": made_up()})


def test_page_of_a_sample_is_marked_as_a_trial():
    download = projects_params().download
    assert "**A trial:** `download.sample` is 240" in written(
        {"001-rnn": made_up()}, download=download.model_copy(update={"sample": 240})
    )
    assert "trial" not in written({"001-rnn": made_up()}, download=download.model_copy(update={"sample": None}))


def test_last_line_counts_recipes_that_reached_their_accuracy():
    results = {"003-lstm": made_up(), "000-lstm": made_up(test=scores(0.82)), "001-ffnn": made_up(test=scores(0.5))}
    assert recipes._last_line(BOOK, results, {"001-multiclass": "no file"}) == (
        "2 of 3 recipes reached their published accuracy (1 of them within the interval); 1 not run: reports/recipes.md"
    )
    assert recipes._last_line(BOOK, {}, {}) == "0 of 0 recipes reached their published accuracy"


# from a run to the page

PIPELINE = """
stages:
  evaluate:
    foreach: ${run}
    do:
      cmd: python stages/evaluate.py ${key}
      deps: [data/external, stages/evaluate.py]
      params: [download, "models.${key}"]
      outs: ["models/${key}", "reports/models/${key}"]
      metrics: ["metrics/history/${key}.csv": {cache: false}]
"""
EVALUATE = f"""
import json, sys
from pathlib import Path

name = sys.argv[1]
made = {{
    f"models/{{name}}/environment.json": {made_up().environment!r},
    f"reports/models/{{name}}/scores.json": {{"test": {scores(0.86)!r}}},
    f"reports/models/{{name}}/layers.json": {{"weights": 321}},
    "metrics/splits.json": {{"rows": {{"train": 16, "valid": 4, "test": 5}}}},
}}
for file, value in made.items():
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(json.dumps(value))
Path(f"models/{{name}}/model.weights.h5").write_text(name)
Path("metrics/history").mkdir(exist_ok=True)
Path(f"metrics/history/{{name}}.csv").write_text("epoch,valid_accuracy_score,valid_f1_score\\n1,0.5,0.5\\n2,0.8,0.7\\n3,0.7,0.7\\n")
"""


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory):
    """A project whose evaluation makes results up at once."""
    top = tmp_path_factory.mktemp("finished")
    files = {"params.yaml": (TOP / "params.yaml").read_text(), "dvc.yaml": PIPELINE, "stages/evaluate.py": EVALUATE}
    for name, text in {**files, "data/external/.gitkeep": ""}.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=top, check=True)
    return top


@pytest.fixture
def project(finished_project, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TOP / "src"))
    return dvc_projects.copy(finished_project, tmp_path, monkeypatch)


def make_recipes(*arguments):
    return subprocess.run([sys.executable, "-m", "sentiflow", "recipes", *arguments], capture_output=True, text=True)


def test_result_has_the_first_of_the_best_epochs(project):
    groups, _ = recipes.grouped(BOOK, PACKAGE_ONLY)
    group = next(group for group in groups if "003-lstm" in group.recipes)
    subprocess.run([sys.executable, "stages/evaluate.py", "lstm"], check=True)
    found = recipes.result(project, group, BOOK.recipes["003-lstm"], keep_best="f1_score")
    assert (found.epochs, found.kept, found.kept_accuracy, found.last_accuracy) == (3, 2, 0.8, 0.7)
    assert (found.rows["train"], found.weights, found.test, found.source) == (16, 321, scores(0.86), "package")
    assert found.seconds is None

    other = isolated_run.FOLDER / "all/.cache/training/records"  # the run that trained it
    training_record.write(other, project / "models/lstm", training_record.Record([3.0, 4.0], []))
    assert recipes.result(project, group, BOOK.recipes["003-lstm"], keep_best="f1_score").seconds == [3.0, 4.0]
    Path("models/lstm/model.weights.h5").write_text("another model")
    assert recipes.result(project, group, BOOK.recipes["003-lstm"], keep_best="f1_score").seconds is None


def test_recipes_are_run_and_listed_on_the_page_and_the_project_does_not_change(project):
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file() and ".dvc" not in path.parts}
    ended = make_recipes()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    page = Path("reports/recipes.md").read_text()
    assert [line.split()[1] for line in page.splitlines() if line.startswith("| 00")][:10] == [
        name for name in BOOK.recipes if name != "001-multiclass"
    ]
    for name in NAMES - {"001-multiclass"}:
        assert row_of(name, page, 1)["kept"] == "2"
    assert ended.stdout.splitlines()[0].startswith("The recipes as published; about 25 minutes")
    assert ended.stdout.splitlines()[-1].endswith("1 not run: reports/recipes.md")
    after = {path: path.read_bytes() for path in before}
    assert after == before
    assert not Path("dvc.lock").exists()

    again = make_recipes()
    assert "Running stage" not in again.stdout
    assert Path("reports/recipes.md").read_text() == page


def test_recipes_of_a_failed_run_are_listed_as_not_run_and_the_status_is_1(project):
    Path("stages/evaluate.py").write_text(EVALUATE.replace("name = sys.argv[1]", "name = sys.argv[1]; assert name != 'lstm'"))
    ended = make_recipes()
    assert ended.returncode == 1
    assert "error: the run in .cache/side/recipes-package-64-16-20-no-negations ended with status 1" in ended.stderr
    assert "- 003-lstm: its run failed" in Path("reports/recipes.md").read_text()
    assert "9 recipes reached their published accuracy" in ended.stdout.splitlines()[-1]


def test_page_of_an_earlier_run_stays_if_every_run_fails(project):
    Path("stages/evaluate.py").write_text("raise SystemExit(3)\n")
    Path("reports").mkdir()
    Path("reports/recipes.md").write_text("earlier\n")
    assert make_recipes().returncode == 1
    assert Path("reports/recipes.md").read_text() == "earlier\n"
