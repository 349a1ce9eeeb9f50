"""Split the reviews into train, valid and test, with no text in two of them.

from  reviews   raw texts and the names of the classes
      clean     both views of each review
to    splits    train, valid and test
      test set  the raw texts of test with their labels, and hashes of the texts that models are trained and chosen on
      proof     counts, label balance, overlaps and the digest of the test set
"""

import json
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
            "the source has a split of its own (%s), which split.method: %s does not use; set split.method: official to keep it",
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

    with stage.writing(splits_dir, test_set_dir, proof_file) as (splits_place, test_set_place, proof_place):
        splits_place.mkdir()
        test_set_place.mkdir()
        test.to_parquet(test_set_place / "reviews.parquet", index=False)
        seen.to_parquet(test_set_place / "seen.parquet", index=False)
        for split in splits.SPLITS:
            reviews[assigned == split].to_parquet(splits_place / f"{split}.parquet", index=False)
        proof_place.write_text(json.dumps(proof, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    sizes = ", ".join(f"{rows:,} {split}" for split, rows in proof["rows"].items())
    stage.log.info("wrote %s to %s, left out %s; no text is in two of them", sizes, splits_dir, f"{proof['left_out']:,}")


if __name__ == "__main__":
    stage.run(main)
