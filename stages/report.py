"""Lay out what the run found as one page.

from  data card     where the reviews come from and what is wrong with them
      splits        sizes of train, valid and test
      comparison    the models in order of their valid score
      history       every metric of every epoch
      models        settings, and the machine each was trained on
      predictions   answers of each architecture on test
      reports       layers and classification report of each architecture
      errors        slices, samples, mistakes and disagreements
      explanations  words with their weights, deletion check
to    page          one HTML file, whole in itself
"""

from pathlib import Path

from sentiflow import files, page, params, stage


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
        name: page.Model(
            config=files.read_json(models_dir / name / "config.json"),
            environment=files.read_json(models_dir / name / "environment.json"),
            layers=files.read_json(reports_dir / name / "layers.json"),
            classification=(reports_dir / name / "classification_report.txt").read_text(encoding="utf-8"),
            history=files.read_csv(history_dir / f"{name}.csv"),
            predictions=files.read_frame(predictions_dir / name / "test.parquet"),
        )
        for name in p.run
    }
    results = page.Results(
        card=files.read_json(card_file),
        splits=files.read_json(splits_file),
        vocabulary=files.read_json(vocabulary_file),
        comparison=files.read_json(comparison_file),
        models=models,
        errors=page.Errors(
            slices=page.read_texts(errors_dir / "slices.csv"),
            samples=page.read_texts(errors_dir / "samples.csv"),
            samples_with_text=page.read_texts(errors_dir / "samples_with_text.csv"),
            mistakes=page.read_texts(errors_dir / "mistakes.csv"),
            disagreements=page.read_texts(errors_dir / "disagreements.csv"),
            read_as=page.read_texts(errors_dir / "read_as.csv"),
        ),
        explanations=files.read_json(explanations_dir / "explanations.json"),
    )
    stage.log.info("read what was found of %s", ", ".join(p.run))

    with stage.writing(page_file) as (place,):
        place.write_text(page.render(results, p.evaluate), encoding="utf-8")
    stage.log.info("wrote %s (%.1f MB)", page_file, page_file.stat().st_size / 1e6)


if __name__ == "__main__":
    stage.run(main)
