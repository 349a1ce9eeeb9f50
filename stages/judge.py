"""Name the best model on valid the challenger, and judge it; without a champion it becomes one if it passes every rule.

from  test set, tokens  the test reviews
      published         what was published, by key
to    MLflow            the aliases, and the verdict with the version
      page              the verdict
      judged            what was judged, by key
"""

import json
from pathlib import Path

from sentiflow.config import params
from sentiflow.pipeline import experiments
from sentiflow.registry import judging, measurements, model_versions, store
from sentiflow.registry.test_set import HeldOut
from sentiflow.system import artifacts, stage


def main(test_file: Path, tokens_dir: Path, published_file: Path, page_file: Path, judged_file: Path) -> None:
    if experiments.skip(judged_file):
        return
    p = params.load()
    held_out = HeldOut.read(test_file, tokens_dir, p.analyse)
    published = artifacts.read_json(published_file)
    key = published["keys"][published["best"]]
    client = store.connect()

    with stage.writing(judged_file, page_file) as (judged_place, page_place):
        challenger = model_versions.published(client, key)
        page = judging.challenge(client, challenger, held_out, p.promotion, p.evaluate, seed=p.seed)
        page_place.write_text(page, encoding="utf-8")
        told = {"test_set": held_out.digest, "challenger": key}  # no version: its number is another in another store
        judged_place.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    versions = [model_versions.published(client, key) for name, key in published["keys"].items() if name != "comparison"]
    measurements.complete(client, versions, held_out.texts.tolist())
    stage.log.info("wrote the verdict to %s", page_file)


if __name__ == "__main__":
    stage.run(main)
