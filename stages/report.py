"""Write the results of the run as one HTML page.

from  data card     source, sizes and problems of the reviews
      splits        sizes of train, valid and test
      vocabulary    sizes, unknown words
      comparison    scores, best model on valid first
      history       metrics by epoch
      models        settings and training environment
      predictions   of each model on test
      reports       layers and classification report of each model
      errors        slices, samples, mistakes and disagreements
      explanations  weights of words, deletion test
to    page          a self-contained HTML file
"""

from pathlib import Path

from sentiflow.config import params
from sentiflow.reporting import html_report
from sentiflow.system import artifacts, stage


def main(
    card_file: Path,
    splits_file: Path,
    vocabulary_file: Path,
    comparison_file: Path,
    history_dir: Path,
    models_dir: Path,
    predictions_dir: Path,
    reports_dir: Path,
    errors_dir: Path,
    explanations_dir: Path,
    page_file: Path,
) -> None:
    p = params.load()
    models = {
        name: html_report.Model(
            config=artifacts.read_json(models_dir / name / "config.json"),
            environment=artifacts.read_json(models_dir / name / "environment.json"),
            layers=artifacts.read_json(reports_dir / name / "layers.json"),
            classification=(reports_dir / name / "classification_report.txt").read_text(encoding="utf-8"),
            history=artifacts.read_csv(history_dir / f"{name}.csv"),
            predictions=artifacts.read_frame(predictions_dir / name / "test.parquet"),
        )
        for name in p.run
    }
    results = html_report.Results(
        card=artifacts.read_json(card_file),
        splits=artifacts.read_json(splits_file),
        vocabulary=artifacts.read_json(vocabulary_file),
        comparison=artifacts.read_json(comparison_file),
        models=models,
        errors={name: html_report.read_texts(errors_dir / f"{name}.csv") for name in html_report.ERROR_TABLES},
        explanations=artifacts.read_json(explanations_dir / "explanations.json"),
    )
    stage.log.info("read the results of %s", ", ".join(p.run))

    with stage.writing(page_file) as (place,):
        place.write_text(html_report.render(results, p.evaluate), encoding="utf-8")
    stage.log.info("wrote %s (%.1f MB)", page_file, page_file.stat().st_size / 1e6)


if __name__ == "__main__":
    stage.run(main)
