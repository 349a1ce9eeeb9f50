import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "--reviews-dir": "data/reviews",
    "--card-file": "metrics/data_card.json",
    "--card-page": "reports/data_card.md",
    "--partial-dir": ".cache/download",
}


@pytest.fixture
def download(tmp_path):
    """Runs the stage in a folder of its own, with the project's params but for the given changes of its section."""

    def run(**changes):
        p = yaml.safe_load((ROOT / "params.yaml").read_text())
        p["download"] |= changes
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(p, sort_keys=False))
        command = [sys.executable, "-m", "stages.download", *(word for option in OPTIONS.items() for word in option)]
        env = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


def contents(folder):
    files = [file for place in ("data/reviews", "metrics", "reports") for file in folder.glob(f"{place}/*")]
    return {file.name: file.read_bytes() for file in files}


def write_csv(folder, rows):
    external = folder / "data" / "external"
    external.mkdir(parents=True, exist_ok=True)
    (external / "IMDB Dataset.csv").write_text("review,sentiment\n" + rows)


def test_the_project_as_it_stands_gives_the_reviews_of_the_package_and_their_card(download, tmp_path):
    done = download()
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "metrics/data_card.json").read_text())
    assert (card["rows"], card["distinct_texts"], card["surplus_copies"]) == (25_000, 24_901, 99)
    assert card["texts_with_conflicting_labels"] == 0
    assert len(pd.read_parquet(tmp_path / "data/reviews/reviews.parquet")) == 25_000
    assert json.loads((tmp_path / "data/reviews/classes.json").read_text()) == ["negative", "positive"]


def test_the_well_known_csv_is_read_by_switching_the_source_alone_and_twice_gives_the_same_bytes(download, tmp_path):
    write_csv(tmp_path, '"A ""fine"" film,<br />really.",positive\nDull.,negative\n' * 60 + "slip,posotive\n")
    assert download(source="csv").returncode == 0
    first = contents(tmp_path)
    reviews = pd.read_parquet(tmp_path / "data/reviews/reviews.parquet")
    assert reviews.text[0] == 'A "fine" film,<br />really.'
    assert str(reviews.rating.dtype) == "Int8"
    rejects = pd.read_csv(tmp_path / "data/reviews/rejects.csv")
    assert rejects[["source", "line", "excerpt"]].values.tolist() == [["IMDB Dataset.csv", 122, "'slip'"]]
    assert download(source="csv").returncode == 0
    assert contents(tmp_path) == first
    assert sorted(first) == ["classes.json", "data_card.json", "data_card.md", "rejects.csv", "reviews.parquet"]


def test_a_text_that_is_a_large_part_of_the_reviews_is_warned_about(download, tmp_path):
    rows = "".join(f"Film {i} was a joy.,positive\nFilm {i} was a bore.,negative\n" for i in range(60))
    write_csv(tmp_path, rows + "Not Available,positive\nnot  available,negative\n" * 15)
    done = download(source="csv")
    assert done.returncode == 0
    assert "'Not Available' is the text of 30 of 150 rows (20.0%), with 2 labels: 15 negative, 15 positive; remove" in done.stderr
    assert "Not Available" in (tmp_path / "reports/data_card.md").read_text()


def test_too_many_rejects_end_in_one_message_and_leave_earlier_outputs_as_they_were(download, tmp_path):
    write_csv(tmp_path, "Fine.,positive\nDull.,negative\n" * 60)
    assert download(source="csv").returncode == 0
    first = contents(tmp_path)
    write_csv(tmp_path, "Fine.,positive\nDull.,negative\n" * 60 + "x,?\n" * 60)
    refused = download(source="csv")
    assert refused.returncode == 1
    assert "60 of the 180 rows" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert len(pd.read_csv(tmp_path / ".cache/download/rejects.csv")) == 60
    assert contents(tmp_path) == first


def test_a_missing_file_ends_in_one_message(download):
    refused = download(source="aclimdb")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: no file data/external/aclImdb_v1.tar.gz;")
