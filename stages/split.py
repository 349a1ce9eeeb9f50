"""Split the reviews into train, valid and test, with no text in two of them.

from  reviews   raw texts and class names
      clean     both views of each review
to    splits    train, valid and test
      test set  raw texts of test with their labels, and hashes of the texts that models are trained and selected on
      proof     counts, label balance, overlaps and digest of the test set
"""

from pathlib import Path

from sentiflow.config import params
from sentiflow.data import seen_texts, splits
from sentiflow.system import artifacts, stage


def main(reviews_dir: Path, clean_file: Path, splits_dir: Path, test_set_dir: Path, proof_file: Path) -> None:
    p = params.load()
    reviews = artifacts.read_frame(clean_file)
    stage.log.info("read %s reviews from %s", f"{len(reviews):,}", clean_file)

    own = reviews["split"].dropna().value_counts()
    if len(own) and p.split.method != "official":
        counts = ", ".join(f"{count:,} in {name}" for name, count in own.items())
        stage.log.warning(
            "the source has an official split (%s), which split.method: %s ignores; set split.method: official to use it",
            counts,
            p.split.method,
        )
    assigned = splits.assign(reviews, p.split, seed=p.seed)
    raw = artifacts.read_table(reviews_dir / "reviews.parquet", ["row", "text"]).to_pandas().set_index("row")["text"]
    test = reviews.loc[assigned == "test", ["row", "label"]]
    test = test.assign(text=raw.loc[test["row"]].to_numpy())
    seen = seen_texts.of_training(raw.loc[reviews.loc[assigned.isin(seen_texts.SEEN), "row"]])
    digest = splits.digest_of_test_set(test["text"], test["label"], artifacts.read_json(reviews_dir / "classes.json"))
    proof = splits.prove(reviews, assigned, p.split) | {"test_set": digest}

    with stage.writing(splits_dir, test_set_dir, proof_file) as (folder, test_set, metrics):
        folder.mkdir()
        test_set.mkdir()
        test.to_parquet(test_set / "reviews.parquet", index=False)
        seen.to_parquet(test_set / "seen.parquet", index=False)
        for split in splits.SPLITS:
            reviews[assigned == split].to_parquet(folder / f"{split}.parquet", index=False)
        artifacts.write_json(metrics, proof)
    sizes = ", ".join(f"{rows:,} {split}" for split, rows in proof["rows"].items())
    stage.log.info("wrote %s to %s, left out %s; no text is in two splits", sizes, splits_dir, f"{proof['left_out']:,}")


if __name__ == "__main__":
    stage.run(main)
