"""Evaluate one trained model.

from  model        configuration and weights
      tokens       train, valid and test, as ragged word ids
      history      metrics by epoch
to    report       scores with intervals, classification report, figures
      plots        data of the figures, for `dvc plots`
      predictions  probabilities of all reviews of train, valid and test
      metrics      test scores
"""

from pathlib import Path

from sentiflow.config import params
from sentiflow.data import splits, vocabulary
from sentiflow.evaluation import evaluation
from sentiflow.models import loading, model_config
from sentiflow.reporting import model_report
from sentiflow.system import artifacts, stage


def main(
    model_dir: Path,
    tokens_dir: Path,
    history_file: Path,
    report_dir: Path,
    plots_dir: Path,
    predictions_dir: Path,
    metrics_file: Path,
) -> None:
    p = params.load()
    config = model_config.read(model_dir)
    view = config.settings.view
    model = loading.load(model_dir, vocabulary.Vocabulary.read(tokens_dir / f"{view}.json"))
    stage.log.info("read the model from %s", model_dir)

    with stage.writing(report_dir, plots_dir, predictions_dir, metrics_file) as places:
        report_place, plots_place, predictions_place, metrics_place = places
        for place in (report_place, plots_place, predictions_place):
            place.mkdir()
        scores = {}
        for split in splits.SPLITS:  # test is last: the report below uses its tokens and probabilities
            tokens = vocabulary.read_tokens(tokens_dir / f"{split}.parquet", view)
            probabilities = model.probabilities(tokens.ids)
            scores[split] = evaluation.evaluate(
                tokens.labels, probabilities, p.evaluate, temperature=config.temperature, seed=p.seed
            )
            table = evaluation.predictions(tokens.rows, tokens.labels, probabilities, config.classes)
            table.to_parquet(predictions_place / f"{split}.parquet", index=False)
            stage.log.info("%s: %s reviews, accuracy %.4f", split, f"{len(tokens):,}", scores[split]["accuracy_score"])
        evaluated = model_report.Evaluated(
            architecture=model_dir.name,
            classes=config.classes,
            scores=scores,
            labels=tokens.labels,
            probabilities=probabilities,
            history=artifacts.read_csv(history_file),
            bins=p.evaluate.bins,
            layers=model.layers(),
            temperature=config.temperature,
        )
        model_report.write(evaluated, report_place)
        model_report.write_plot_data(evaluated, plots_place)
        test = {name: round(value, 6) for name, value in scores["test"].items() if not name.endswith(("_low", "_high"))}
        artifacts.write_json(metrics_place, test)
    stage.log.info("wrote the report to %s", report_dir)


if __name__ == "__main__":
    stage.run(main)
