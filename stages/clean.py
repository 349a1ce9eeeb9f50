"""Clean the reviews into two views.

from  reviews   raw texts and labels
to    clean     the same rows with `text` (no markup, no case) and `content` (also no punctuation, no stopwords)
      report    number of reviews that are empty after cleaning
"""

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

    with stage.writing(clean_file, report_file) as (cleaned, metrics):
        reviews.drop(columns="text").join(views).to_parquet(cleaned, index=False)
        artifacts.write_json(metrics, report)
    stage.log.info(
        "wrote %s reviews to %s; %d have no text and %d no content after cleaning: they are kept, and read as padding",
        f"{len(views):,}",
        clean_file,
        report["empty_text"],
        report["empty_content"],
    )


if __name__ == "__main__":
    stage.run(main)
