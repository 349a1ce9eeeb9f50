"""Judge the best model on valid; if there is no champion and it passes every rule, it becomes champion.

from  test set, tokens  the test reviews
      published         keys of what is published
to    MLflow            the alias `challenger`, the verdict with the version, latencies
      page              the verdict
      judged            keys of what was judged
"""

from pathlib import Path

from sentiflow.config import params
from sentiflow.pipeline import experiments
from sentiflow.registry import judging, model_versions, store
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
        judged = {"test_set": held_out.digest, "challenger": key}  # not the version, whose number differs between stores
        artifacts.write_json(judged_place, judged)
    versions = [model_versions.published(client, key) for name, key in published["keys"].items() if name != "comparison"]
    judging.measure_latency(client, versions, held_out.texts.tolist())
    stage.log.info("wrote the verdict to %s", page_file)


if __name__ == "__main__":
    stage.run(main)
