"""Publish each architecture to MLflow and register its model; the best on valid becomes champion if there is none.

from  models, tokens, reports, history   of each architecture
      comparison                         which is best on valid
      dvc.lock                           what a publication is keyed by
to    MLflow                             a run and a registered version each
      published                          what was published, by key
"""

import json
from pathlib import Path

from sentiflow import files, params, provenance, stage, tracking, vocabulary


def main(
    models_dir: Path,
    tokens_dir: Path,
    reports_dir: Path,
    history_dir: Path,
    comparison_file: Path,
    published_file: Path,
) -> None:
    p = params.load()
    best = files.read_json(comparison_file)["best"]
    client = tracking.connect()

    with stage.writing(published_file) as (published_place,):
        keys = {}
        for name in p.run:
            keys[name] = provenance.stage_key(f"train@{name}", f"evaluate@{name}", "clean", "tokenize")
            version = tracking.publish(
                client,
                tracking.Publication(
                    architecture=name,
                    key=keys[name],
                    params=provenance.flat_params(p, name),
                    tags=provenance.tags(name),
                    history=files.read_csv(history_dir / f"{name}.csv"),
                    scores=files.read_json(reports_dir / name / "scores.json"),
                    artifacts={"report": reports_dir / name, "history": history_dir / f"{name}.csv"},
                    model_dir=models_dir / name,
                    tokens_dir=tokens_dir,
                    keep_negations=p.clean.keep_negations,
                    classes=vocabulary.read_classes(tokens_dir),
                ),
            )
            if name == best:
                tracking.crown_if_none(client, version)
        published_place.write_text(json.dumps({"best": best, "keys": keys}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
