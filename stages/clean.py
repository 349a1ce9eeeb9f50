"""Clean the reviews into two views.

from  reviews   raw texts and labels
to    clean     the same rows with `text` (no markup, no case) and `content` (no punctuation, no stopwords either)
      report    how many reviews clean to nothing
"""

import json
from pathlib import Path

from sentiflow.config import params
from sentiflow.data import cleaning
from sentiflow.data.stopwords import Stopwords
from sentiflow.system import artifacts, stage


def main(reviews_file: Path, clean_file: Path, report_file: Path) -> None:
    p = params.load()
    reviews = artifacts.read_frame(reviews_file)
    stage.log.info("read %s reviews from %s", f"{len(reviews):,}", reviews_file)

    stopwords = Stopwords(p.clean.language, p.clean.keep_negations)
    views = cleaning.clean_all(reviews["text"], stopwords=stopwords, partition_rows=p.clean.partition_rows)
    report = {
        "rows": len(views),
        "empty_text": int((views["text"] == "").sum()),
        "empty_content": int((views["content"] == "").sum()),
        "rows_with_empty_content": reviews["row"][views["content"] == ""].tolist()[:100],
    }

    with stage.writing(clean_file, report_file) as (clean_place, report_place):
        reviews.drop(columns="text").join(views).to_parquet(clean_place, index=False)
        report_place.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    stage.log.info(
        "wrote %s reviews to %s; %d clean to no text and %d to no content: they are kept, and read as padding",
        f"{len(views):,}",
        clean_file,
        report["empty_text"],
        report["empty_content"],
    )


if __name__ == "__main__":
    stage.run(main)
