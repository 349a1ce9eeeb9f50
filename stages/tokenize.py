"""Fit a vocabulary on train and convert all reviews to word ids.

from  splits    train, valid and test
      classes   class names by index
to    tokens    one Keras tokenizer per view, each split as ragged word ids, the classes
      report    sizes, most frequent words, out-of-vocabulary rate
"""

import shutil
from pathlib import Path

from sentiflow.config import params
from sentiflow.data import splits, vocabulary
from sentiflow.system import artifacts, stage

HIGH_UNKNOWN_RATE = 0.3  # fraction of the tokens in valid above which there is a warning


def main(splits_dir: Path, classes_file: Path, tokens_dir: Path, report_file: Path) -> None:
    p = params.load()
    classes = artifacts.read_json(classes_file)
    reviews = {split: artifacts.read_frame(splits_dir / f"{split}.parquet") for split in splits.SPLITS}
    stage.log.info("read %s from %s", ", ".join(f"{len(r):,} {split}" for split, r in reviews.items()), splits_dir)

    with stage.writing(tokens_dir, report_file) as (tokens, metrics):
        tokens.mkdir()
        ids: dict[str, dict[str, vocabulary.Ragged]] = {split: {} for split in splits.SPLITS}
        report = {}
        for view in ("text", "content"):
            file = tokens / f"{view}.json"
            file.write_text(vocabulary.fit(reviews["train"][view], minimum_count=p.tokenize.minimum_count), encoding="utf-8")
            words = vocabulary.Vocabulary.read(file)
            for split in splits.SPLITS:
                ids[split][view] = words.ids(reviews[split][view])
            report[view] = vocabulary.describe(words, {split: ids[split][view] for split in splits.SPLITS})
            unknown = vocabulary.unknown_rate(ids["valid"][view], len(words))
            if view == "text" and unknown > HIGH_UNKNOWN_RATE:
                stage.log.warning(
                    "%.0f%% of the words in valid are not in the vocabulary of train, so models can learn little from them: "
                    "if the language is written without spaces, insert spaces between words; otherwise use more reviews",
                    100 * unknown,
                )
            stage.log.info("view %s: %s different words in train", view, f"{report[view]['words']:,}")
        indices = {name: index for index, name in enumerate(classes)}
        for split in splits.SPLITS:
            labels = reviews[split]["label"].map(indices)
            vocabulary.write_tokens(tokens / f"{split}.parquet", reviews[split]["row"], labels, ids[split])
        shutil.copyfile(classes_file, tokens / "classes.json")
        artifacts.write_json(metrics, report)
    stage.log.info("wrote ragged word ids to %s", tokens_dir)


if __name__ == "__main__":
    stage.run(main)
