"""Detection rate of drift: false alarms on reviews like the champion's, and hits on reviews that differ.

Each draw uses a random half of the valid and test reviews as the champion's test set. Incoming reviews are drawn from the other
half, or from reviews that differ in a known way. For comparison: how often a common test of the same measures rejects at
p < 0.05. Reads the outputs of `sentiflow repro` on the default reviews.

python benchmarks/drift.py [--model NAME] [--draws N]
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from scipy import stats
from tqdm import tqdm

from sentiflow.config.params import Params
from sentiflow.data import sources, vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.data.vocabulary import Vocabulary
from sentiflow.models import loading, model_config, settings
from sentiflow.models.sentiment_model import SentimentModel
from sentiflow.registry import drift_baseline
from sentiflow.registry.drift_baseline import Reference
from sentiflow.serving import drift
from sentiflow.system import artifacts, markdown, stage

DATA = Path("data")
SIZES = (200, 500, 2000)  # incoming reviews
RESAMPLES = 200
SHORTEST = 0.25  # share of reviews
SIGNIFICANCE = 0.05  # level of the common tests
MIXED = 0.3  # share of reviews from another data set


def measured(model_dir: Path, p: Params) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Measures and labels of the reviews of train (without probabilities), of valid and test, and of Rotten Tomatoes."""
    config = model_config.read(model_dir)
    view = config.settings.view
    words = Vocabulary.read(DATA / f"tokens/{view}.json")
    stopwords = Stopwords(p.clean.language, p.clean.keep_negations)
    model = SentimentModel(loading.load(model_dir, words), stopwords)
    texts = artifacts.read_table(DATA / "reviews/reviews.parquet", ["row", "text"]).to_pandas().set_index("row")["text"]
    names = pd.Series(vocabulary.read_classes(DATA / "tokens"))
    tokens = {name: vocabulary.read_tokens(DATA / f"tokens/{name}.parquet", view) for name in ("train", "valid", "test")}
    train = drift_baseline.measures(tokens["train"], words, config.settings).assign(
        label=names[tokens["train"].labels].to_numpy()
    )
    held_out = [
        drift.measure(model, texts.loc[part.rows]).assign(label=names[part.labels].to_numpy())
        for part in (tokens["valid"], tokens["test"])
    ]
    part = p.download.package.model_copy(update={"part": "rotten_tomatoes"})
    settings_of_snippets = p.download.model_copy(update={"source": "package", "sample": None, "package": part})
    with tempfile.TemporaryDirectory() as partial:
        snippets = sources.load(settings_of_snippets, Path(partial), seed=p.seed).reviews
    return train, pd.concat(held_out), drift.measure(model, snippets["text"]).assign(label=snippets["label"])


def kinds(rest: pd.DataFrame, snippets: pd.DataFrame, size: int, seed: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Kinds of incoming reviews by name; `size` reviews each, drawn from `rest` and `snippets`."""

    def drawn(source: pd.DataFrame, count: int = size) -> pd.DataFrame:
        return source.sample(count, random_state=seed, replace=len(source) < count)

    positive, negative = rest[rest["label"] == "positive"], rest[rest["label"] == "negative"]
    mixed = round(MIXED * size)
    yield "like the champion's", drawn(rest)
    yield "60% positive", pd.concat([drawn(positive, round(0.6 * size)), drawn(negative, size - round(0.6 * size))])
    yield "80% positive", pd.concat([drawn(positive, round(0.8 * size)), drawn(negative, size - round(0.8 * size))])
    yield "only positive, no labels", drawn(positive).assign(label=None)
    yield f"shortest {SHORTEST:.0%}", drawn(rest.nsmallest(round(SHORTEST * len(rest)), "length"))
    yield f"{MIXED:.0%} Rotten Tomatoes", pd.concat([drawn(rest, size - mixed), drawn(snippets, mixed)])
    yield "Rotten Tomatoes", drawn(snippets)


def a_test_rejects(known: Reference, sample: pd.DataFrame) -> bool:
    """Whether Fisher's exact test (labels), Welch's t (unknown words) or a Kolmogorov-Smirnov test has p < 0.05."""
    name = known.classes[1]
    column = f"{drift_baseline.PROBABILITY}{name}"
    p = [
        stats.ks_2samp(sample["length"], known.train["length"], method="asymp").pvalue,
        stats.ks_2samp(sample[column], known.test[column], method="asymp").pvalue,
        stats.ttest_ind(sample["unknown"], known.test["unknown"], equal_var=False).pvalue,
    ]
    labels = sample["label"].dropna()
    if len(labels):
        counts = [[(of == name).sum(), (of != name).sum()] for of in (labels, known.train["label"])]
        p.append(stats.fisher_exact(counts).pvalue)
    return bool(min(p) < SIGNIFICANCE)


def main(
    model: Annotated[str, typer.Option(help="Name of a trained model.")] = "nb_svm",
    draws: Annotated[int, typer.Option(min=1, help="Samples of each kind and size.")] = 100,
) -> None:
    p = settings.load()
    train, pool, snippets = measured(Path("models") / model, p)
    detected: dict[tuple[str, int], Counter[str]] = {}
    for size in SIZES:
        for draw in tqdm(range(draws), desc=f"{size} reviews", disable=None, leave=False):
            shuffled = pool.sample(frac=1, random_state=draw)
            test, rest = shuffled[: len(pool) // 2], shuffled[len(pool) // 2 :]
            known = Reference(pd.concat([train.assign(split="train"), test.assign(split="test")]))
            for kind, sample in kinds(rest, snippets, size, draw):
                findings, _ = drift.compare(known, sample, p.drift, resamples=RESAMPLES, seed=draw)
                found = [each.measure for each in findings if each.outcome == drift.DRIFTED]
                tested = ["a test"] if a_test_rejects(known, sample) else []
                detected.setdefault((kind, size), Counter()).update([*found, *(["any"] if found else []), *tested])
    print(f"{model}, {len(pool) // 2:,} test reviews of the champion, {draws} samples of each kind; share of samples with drift")
    measures = ["share of positive", "length", "unknown words", "probability of positive"]
    rows = [
        [kind, str(size), *(f"{of[measure] / draws:.0%}" for measure in ["a test", "any", *measures])]
        for (kind, size), of in sorted(detected.items(), key=lambda each: list(detected).index((each[0][0], SIZES[0])))
    ]
    print("\n".join(markdown.markdown(["incoming", "reviews", f"p < {SIGNIFICANCE}", "drift", *measures], rows)))


if __name__ == "__main__":
    stage.run(main)
