"""Publish each model to MLflow and register it.

from  models, tokens, reports   of each model; its predictions on test; hashes of the texts it was trained or chosen on
      metrics, figures, cache   the comparison, the history of each training, sizes of splits and vocabulary, training times
to    MLflow                    a run of the retraining; in it a run and a version of each model
      page                      address of MLflow's comparison of the models, without the server
      published                 keys of what is published
"""

from pathlib import Path

from sentiflow.config import params
from sentiflow.data import vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import training_record
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
    page_file: Path,
    published_file: Path,
) -> None:
    if experiments.skip(published_file):
        return
    p = params.load()
    comparison = artifacts.read_json(metrics_dir / "comparison.json")
    split = artifacts.read_json(metrics_dir / "splits.json")
    seen = artifacts.read_frame(seen_file)
    client = store.connect()
    with stage.writing(published_file, page_file) as (published_place, page_place):
        keys = {name: provenance.publication_key(name) for name in p.run}
        keys["comparison"] = provenance.stage_key("compare", "analyse", "explain", "report")
        parent = publishing.retraining(client, keys["comparison"])
        scores, versions = {}, {}
        for name in p.run:
            report_dir, history_file = reports_dir / "models" / name, metrics_dir / "history" / f"{name}.csv"
            scores[name] = artifacts.read_json(report_dir / "scores.json")
            publication = publishing.Publication(
                architecture=name,
                key=keys[name],
                params=provenance.flat_params(p, name),
                provenance=provenance.of_model(name),
                history=artifacts.read_csv(history_file),
                record=training_record.read(cache_dir / "records", models_dir / name),
                scores=scores[name],
                weights=artifacts.read_json(report_dir / "layers.json")["weights"],
                environment=artifacts.read_json(models_dir / name / "environment.json"),
                artifacts={"report": report_dir, "history": history_file},
                reviews=split["rows"],
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
        best, names = comparison["best"], ("comparison.md", "tuning.md", "errors", "explanations", "report.html")
        pages = [*(reports_dir / name for name in names), figures_dir, metrics_dir / "vocabulary.json"]
        publishing.finish(client, parent, versions, best=best, scores=scores[best]["test"], pages=pages)
        best_first = [versions[model["architecture"]] for model in comparison["models"]]
        page_place.write_text(publishing.comparison_page(client, best_first) + "\n", encoding="utf-8")
        artifacts.write_json(published_place, {"best": best, "keys": keys})


if __name__ == "__main__":
    stage.run(main)
