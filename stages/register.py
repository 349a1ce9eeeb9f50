"""Publish each model to MLflow and register its model.

from  models, tokens, reports   of each model; the predictions on test, and what was seen in training
      metrics, figures, cache   the comparison; every epoch; sizes of splits and vocabulary; how each training went
to    MLflow                    a run of the retraining; in it a run and a version each, with what drift and promotion compare
      published                 what was published, by the keys that dvc.lock gives
"""

import json
from pathlib import Path

from sentiflow.config import params
from sentiflow.data import vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import model_config, training_record
from sentiflow.pipeline import experiments
from sentiflow.registry import provenance, publishing, store
from sentiflow.system import artifacts, stage


def main(
    models_dir: Path,
    tokens_dir: Path,
    seen_file: Path,
    predictions_dir: Path,
    reports_dir: Path,
    metrics_dir: Path,
    figures_dir: Path,
    cache_dir: Path,
    published_file: Path,
) -> None:
    if experiments.skip(published_file):
        return
    p = params.load()
    best = artifacts.read_json(metrics_dir / "comparison.json")["best"]
    split = artifacts.read_json(metrics_dir / "splits.json")
    seen = artifacts.read_frame(seen_file)
    client = store.connect()
    with stage.writing(published_file) as (published_place,):
        keys = {name: provenance.publication_key(name) for name in p.run}
        keys["comparison"] = provenance.stage_key("compare", "analyse", "explain", "report")
        splits = [
            publishing.Split(name, f"{tokens_dir}/{name}.parquet", provenance.tokens(), n) for name, n in split["rows"].items()
        ]
        parent = publishing.retraining(client, keys["comparison"])
        scores, versions = {}, {}
        for name in p.run:
            report_dir, history_file = reports_dir / "models" / name, metrics_dir / "history" / f"{name}.csv"
            scores[name] = artifacts.read_json(report_dir / "scores.json")
            publication = publishing.Publication(
                architecture=name,
                key=keys[name],
                params=provenance.flat_params(p, name),
                tags=provenance.tags(name),
                history=artifacts.read_csv(history_file),
                record=training_record.read(cache_dir / "records", models_dir / name),
                scores=scores[name],
                temperature=model_config.read(models_dir / name).temperature,
                weights=artifacts.read_json(report_dir / "layers.json")["weights"],
                environment=artifacts.read_json(models_dir / name / "environment.json"),
                artifacts={"report": report_dir, "history": history_file},
                splits=splits,
                test_set=split["test_set"],
                predictions_file=predictions_dir / name / "test.parquet",
                model_dir=models_dir / name,
                tokens_dir=tokens_dir,
                seen=seen,
                stopwords=Stopwords(p.clean.language, p.clean.keep_negations),
                classes=vocabulary.read_classes(tokens_dir),
            )
            versions[name] = publishing.publish(client, publication, parent=parent)
            publishing.keep_artifacts(client, versions[name], publication)
        about_all = ("comparison.md", "tuning.md", "errors", "explanations", "report.html")
        pages = [*(reports_dir / page for page in about_all), figures_dir, metrics_dir / "vocabulary.json"]
        publishing.finish(
            client, parent, publishing.Summary(best, {name: of["test"] for name, of in scores.items()}, pages), versions
        )
        published_place.write_text(json.dumps({"best": best, "keys": keys}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
