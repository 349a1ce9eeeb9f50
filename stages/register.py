"""Publish each architecture to MLflow and register its model; the best on valid becomes champion if there is none.

from  models, tokens, reports, history   of each architecture
      comparison                         which is best on valid
      vocabulary                         sizes, most frequent words, rate of unknown words
      figures                            of the comparison
      cache                              how long each epoch took
      dvc.lock                           what a publication is keyed by
to    MLflow                             a run and a registered version each, and a run of the comparison
      published                          what was published, by key
"""

import json
from pathlib import Path

from sentiflow import files, params, provenance, stage, tracking, training_record, vocabulary

ABOUT_ALL = ("comparison.md", "tuning.md", "errors", "explanations", "report.html")


def main(
    models_dir: Path,
    tokens_dir: Path,
    reports_dir: Path,
    history_dir: Path,
    comparison_file: Path,
    vocabulary_file: Path,
    figures_dir: Path,
    cache_dir: Path,
    published_file: Path,
) -> None:
    p = params.load()
    best = files.read_json(comparison_file)["best"]
    client = tracking.connect()

    with stage.writing(published_file) as (published_place,):
        keys, scores = {}, {}
        for name in p.run:
            keys[name] = provenance.stage_key(f"train@{name}", f"evaluate@{name}", "clean", "tokenize")
            report_dir = reports_dir / "models" / name
            of_splits = files.read_json(report_dir / "scores.json")
            scores[name] = of_splits["test"]
            publication = tracking.Publication(
                architecture=name,
                key=keys[name],
                params=provenance.flat_params(p, name),
                tags=provenance.tags(name),
                history=files.read_csv(history_dir / f"{name}.csv"),
                seconds=training_record.read(cache_dir / f"{name}.json", models_dir / name),
                scores=of_splits,
                weights=files.read_json(report_dir / "layers.json")["weights"],
                environment=files.read_json(models_dir / name / "environment.json"),
                artifacts={"report": report_dir, "history": history_dir / f"{name}.csv"},
                model_dir=models_dir / name,
                tokens_dir=tokens_dir,
                keep_negations=p.clean.keep_negations,
                classes=vocabulary.read_classes(tokens_dir),
            )
            version = tracking.publish(client, publication)
            if name == best:
                tracking.crown_if_none(client, version)
        keys["comparison"] = provenance.stage_key("compare", "analyse", "explain", "report")
        about_all = [*(reports_dir / page for page in ABOUT_ALL), figures_dir, vocabulary_file]
        tracking.publish_summary(client, tracking.Summary(keys["comparison"], best, scores, about_all))
        published_place.write_text(json.dumps({"best": best, "keys": keys}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
