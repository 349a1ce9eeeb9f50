"""Lay out what the run found as one page.

from  data card     where the reviews come from and what is wrong with them
      splits        sizes of train, valid and test
      comparison    the models in order of their valid score
      history       every metric of every epoch
      models        settings, and the machine each was trained on
      predictions   answers of each model on test
      reports       layers and classification report of each model
      errors        slices, samples, mistakes and disagreements
      explanations  words with their weights, deletion check
to    page          one HTML file, whole in itself
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
        errors=html_report.Errors(
            slices=html_report.read_texts(errors_dir / "slices.csv"),
            samples=html_report.read_texts(errors_dir / "samples.csv"),
            samples_with_text=html_report.read_texts(errors_dir / "samples_with_text.csv"),
            mistakes=html_report.read_texts(errors_dir / "mistakes.csv"),
            disagreements=html_report.read_texts(errors_dir / "disagreements.csv"),
            read_as=html_report.read_texts(errors_dir / "read_as.csv"),
        ),
        explanations=artifacts.read_json(explanations_dir / "explanations.json"),
    )
    stage.log.info("read what was found of %s", ", ".join(p.run))

    with stage.writing(page_file) as (place,):
        place.write_text(html_report.render(results, p.evaluate), encoding="utf-8")
    stage.log.info("wrote %s (%.1f MB)", page_file, page_file.stat().st_size / 1e6)


if __name__ == "__main__":
    stage.run(main)
