"""Fit a vocabulary on train and turn all reviews into word ids.

from  splits    train, valid and test
      classes   names in order
to    tokens    a Keras tokenizer a view; each split as ragged word ids; the classes
      report    sizes, most frequent words, rate of unknown words
"""

import json
import shutil
from pathlib import Path

from sentiflow.config import params
from sentiflow.data import splits, vocabulary
from sentiflow.system import artifacts, stage

MANY_NEW = 0.3  # share of the words in valid that are not in the vocabulary of train


def main(splits_dir: Path, classes_file: Path, tokens_dir: Path, report_file: Path) -> None:
    p = params.load()
    classes = artifacts.read_json(classes_file)
    reviews = {split: artifacts.read_frame(splits_dir / f"{split}.parquet") for split in splits.SPLITS}
    stage.log.info("read %s from %s", ", ".join(f"{len(r):,} {split}" for split, r in reviews.items()), splits_dir)

    with stage.writing(tokens_dir, report_file) as (tokens_place, report_place):
        tokens_place.mkdir()
        ids: dict[str, dict[str, vocabulary.Ragged]] = {split: {} for split in splits.SPLITS}
        report = {}
        for view in ("text", "content"):
            file = tokens_place / f"{view}.json"
            file.write_text(vocabulary.fit(reviews["train"][view], minimum_count=p.tokenize.minimum_count), encoding="utf-8")
            words = vocabulary.Vocabulary.read(file)
            for split in splits.SPLITS:
                ids[split][view] = words.ids(reviews[split][view])
            report[view] = vocabulary.describe(words, {split: ids[split][view] for split in splits.SPLITS})
            if view == "text" and (new := vocabulary.unknown_rate(ids["valid"][view], len(words))) > MANY_NEW:
                stage.log.warning(
                    "%.0f%% of the words in valid are not in the vocabulary of train, so a model can learn little from them: "
                    "if the language is written without spaces, put spaces between its words; otherwise use more reviews",
                    100 * new,
                )
            stage.log.info("view %s: %s different words in train", view, f"{report[view]['words']:,}")
        places = {name: place for place, name in enumerate(classes)}
        for split in splits.SPLITS:
            labels = reviews[split]["label"].map(places)
            vocabulary.write_tokens(tokens_place / f"{split}.parquet", reviews[split]["row"], labels, ids[split])
        shutil.copyfile(classes_file, tokens_place / "classes.json")
        report_place.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    stage.log.info("wrote ragged word ids to %s", tokens_dir)


if __name__ == "__main__":
    stage.run(main)
