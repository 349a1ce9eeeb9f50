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
    """Runs the stage in a separate folder with changed settings of its section."""

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


def test_the_default_params_give_the_reviews_of_the_package_and_their_card(download, tmp_path):
    done = download()
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "metrics/data_card.json").read_text())
    assert (card["rows"], card["distinct_texts"], card["surplus_copies"]) == (25_000, 24_901, 99)
    assert card["texts_with_conflicting_labels"] == 0
    assert len(pd.read_parquet(tmp_path / "data/reviews/reviews.parquet")) == 25_000
    assert json.loads((tmp_path / "data/reviews/classes.json").read_text()) == ["negative", "positive"]


def test_the_imdb_csv_needs_only_the_source_setting_and_is_deterministic(download, tmp_path):
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
