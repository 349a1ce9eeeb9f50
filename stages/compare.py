"""Compare the evaluated architectures: choose on valid, report on test.

from  reports      scores of each architecture
      predictions  answers of each architecture on test
      history      every metric of every epoch
to    comparison   as a page (Markdown) and as data (JSON)
      figures      accuracies with intervals, overlaid curves
"""

import json
from pathlib import Path

from sentiflow import comparison, files, params, plots, stage


def main(
    reports_dir: Path, predictions_dir: Path, history_dir: Path, page_file: Path, data_file: Path, figures_dir: Path
) -> None:
    p = params.load()
    scores = {name: files.read_json(reports_dir / name / "scores.json") for name in p.run}
    predictions = {name: files.read_frame(predictions_dir / name / "test.parquet") for name in p.run}
    histories = {name: files.read_csv(history_dir / f"{name}.csv") for name in p.run}
    stage.log.info("read scores and predictions of %s", ", ".join(p.run))

    compared = comparison.compare(scores, predictions, chosen_by=p.train.keep_best)
    with stage.writing(page_file, data_file, figures_dir) as (page_place, data_place, figures_place):
        page_place.write_text(comparison.as_markdown(compared), encoding="utf-8")
        data_place.write_text(json.dumps(compared, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        figures_place.mkdir()
        plots.scores_with_intervals(comparison.as_table(compared), figures_place / "accuracy.png")
        plots.overlaid_curves(histories, figures_place / "curves.png")
    stage.log.info("best on %s: %s; wrote %s", compared["chosen_by"], compared["best"], page_file)


if __name__ == "__main__":
    stage.run(main)
