"""Split the reviews into train, valid and test, with no text in two of them.

from  clean     both views of each review
to    splits    train, valid and test
      proof     counts, label balance and overlaps
"""

import json
from pathlib import Path

from sentiflow.config import params
from sentiflow.data import splits
from sentiflow.system import artifacts, stage


def main(clean_file: Path, splits_dir: Path, proof_file: Path) -> None:
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
    proof = splits.prove(reviews, assigned, p.split)

    with stage.writing(splits_dir, proof_file) as (splits_place, proof_place):
        splits_place.mkdir()
        for split in splits.SPLITS:
            reviews[assigned == split].to_parquet(splits_place / f"{split}.parquet", index=False)
        proof_place.write_text(json.dumps(proof, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    sizes = ", ".join(f"{rows:,} {split}" for split, rows in proof["rows"].items())
    stage.log.info("wrote %s to %s, left out %s; no text is in two of them", sizes, splits_dir, f"{proof['left_out']:,}")


if __name__ == "__main__":
    stage.run(main)
