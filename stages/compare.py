"""Compare the evaluated models: choose on valid, report on test.

from  reports      scores of each model
      predictions  of each model on test
      history      metrics by epoch
      models       training environment of each model
to    comparison   as a page (Markdown) and as JSON
      tuning       changed settings of two models and their effect, as a page
      figures      accuracies with intervals, overlaid curves
      environment  training environment, without repetitions
"""

import json
from pathlib import Path

from sentiflow.config import params
from sentiflow.data import sources
from sentiflow.evaluation import comparison, tuning
from sentiflow.models import settings
from sentiflow.reporting import png_plots
from sentiflow.system import artifacts, environment, stage


def main(
    reports_dir: Path,
    predictions_dir: Path,
    history_dir: Path,
    models_dir: Path,
    page_file: Path,
    tuning_file: Path,
    data_file: Path,
    figures_dir: Path,
    environment_file: Path,
) -> None:
    p = params.load()
    scores = {name: artifacts.read_json(reports_dir / name / "scores.json") for name in p.run}
    predictions = {name: artifacts.read_frame(predictions_dir / name / "test.parquet") for name in p.run}
    histories = {name: artifacts.read_csv(history_dir / f"{name}.csv") for name in p.run}
    trained_on = {name: artifacts.read_json(models_dir / name / "environment.json") for name in p.run}
    stage.log.info("read scores and predictions of %s", ", ".join(p.run))

    has_published = sources.SOURCES[p.download.source].has_published(p.download)
    compared = comparison.compare(scores, predictions, chosen_by=p.train.keep_best, has_published=has_published)
    pair = (p.compare.baseline, p.compare.tuned)
    tuned = None
    if set(pair) <= set(p.run):
        reasons = settings.descriptions(p.run[pair[0]], p.run[pair[1]])
        changes = tuning.changes(p.models[pair[0]], p.models[pair[1]], reasons)
        tuned = tuning.report(pair, changes, (predictions[pair[0]], predictions[pair[1]]), p.evaluate, seed=p.seed)
    compared |= {"tuning": tuned}

    written = page_file, tuning_file, data_file, figures_dir, environment_file
    with stage.writing(*written) as (page_place, tuning_place, data_place, figures_place, environment_place):
        page_place.write_text(comparison.as_markdown(compared), encoding="utf-8")
        tuning_place.write_text(tuning.as_markdown(pair, tuned), encoding="utf-8")
        artifacts.write_json(data_place, compared)
        kept = json.dumps(environment.record(trained_on), indent=2, sort_keys=True) + "\n"
        environment_place.write_text(kept, encoding="utf-8")
        figures_place.mkdir()
        png_plots.scores_with_intervals(comparison.as_table(compared), figures_place / "accuracy.png")
        png_plots.overlaid_curves(histories, figures_place / "curves.png")
    stage.log.info("best on %s: %s; wrote %s", compared["chosen_by"], compared["best"], page_file)


if __name__ == "__main__":
    stage.run(main)
