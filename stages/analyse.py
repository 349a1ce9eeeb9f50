"""Analyse the mistakes on test: by kind of review, by confidence, and where the two best models disagree.

from  test set     raw texts
      tokens       test, as ragged word ids, and the vocabularies
      predictions  of each model on test
      models       view and length of the input
      comparison   the models, best on valid first
to    errors       tables (CSV) of samples, slices, mistakes and disagreements, and a page (Markdown); the first sample decoded
                   from its word ids
      metrics      accuracy by slice
"""

from pathlib import Path

from sentiflow.config import params
from sentiflow.data import vocabulary
from sentiflow.evaluation import error_analysis
from sentiflow.models import model_config
from sentiflow.reporting import error_report
from sentiflow.system import artifacts, stage


def main(
    test_file: Path,
    tokens_dir: Path,
    predictions_dir: Path,
    models_dir: Path,
    comparison_file: Path,
    errors_dir: Path,
    metrics_file: Path,
) -> None:
    p = params.load()
    names = [model["architecture"] for model in artifacts.read_json(comparison_file)["models"]]
    texts = artifacts.read_frame(test_file).set_index("row")["text"]
    words = {view: vocabulary.Vocabulary.read(tokens_dir / f"{view}.json") for view in ("text", "content")}
    tokens = {view: vocabulary.read_tokens(tokens_dir / "test.parquet", view) for view in words}
    answers = error_analysis.collect(
        {name: artifacts.read_frame(predictions_dir / name / "test.parquet") for name in names}, texts
    )
    stage.log.info("read the predictions of %s on %s test reviews", ", ".join(names), f"{len(answers.labels):,}")

    of_texts = error_analysis.measures_of_texts(tokens["text"], words["text"], p.analyse)
    measures = {}
    for name in names:
        settings = model_config.read(models_dir / name).settings
        read = error_analysis.measures_of_reading(tokens[settings.view], words[settings.view], settings)
        measures[name] = of_texts.join(read)
    slices = error_analysis.accuracy_by_slice(answers, measures, confidence=p.evaluate.confidence)
    tables = error_analysis.analyse(answers, slices, p.analyse, seed=p.seed)
    tables["read_as"] = error_analysis.read_as(int(tables["samples"]["row"].iloc[0]), tokens, words)

    with stage.writing(errors_dir, metrics_file) as (errors_place, metrics_place):
        errors_place.mkdir()
        for name, table in tables.items():
            (errors_place / f"{name}.csv").write_text(error_analysis.as_csv(table), encoding="utf-8", newline="")
        page = error_report.as_markdown(answers, tables, confidence=p.evaluate.confidence)
        (errors_place / "errors.md").write_text(page, encoding="utf-8")
        artifacts.write_json(metrics_place, error_analysis.as_metrics(slices))
    stage.log.info("wrote samples, slices, mistakes and disagreements to %s", errors_dir)


if __name__ == "__main__":
    stage.run(main)
