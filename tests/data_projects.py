"""Small projects with data made by the real stages and recorded by DVC, and with git history, but without models."""

import shutil
import subprocess
import sys
from pathlib import Path

import sources
from dvc.repo import Repo

from stages import clean, download, split

FILE = Path("data/external/reviews.csv")
PIPELINE = """
stages:
  download:
    cmd: mkdir -p data metrics && cp -r made/reviews data/ && cp made/data_card.json metrics/
    deps: [data/external, src/reader.py]
    params: [seed, download]
    outs:
    - data/reviews
    - metrics/data_card.json: {cache: false}
  clean:
    cmd: cp made/clean.parquet data/
    deps: [data/reviews/reviews.parquet]
    params: [clean]
    outs: [data/clean.parquet]
  split:
    cmd: cp -r made/splits data/ && cp made/splits.json metrics/
    deps: [data/clean.parquet]
    params: [seed, split]
    outs:
    - data/splits
    - metrics/splits.json: {cache: false}
"""
IGNORED = "/made\n/data/*\n!/data/external\n/data/external/*.csv\n.*.lock\n/.cache\n"


def start(folder):
    """An empty project in the working folder `folder`, whose remote is `../remote`."""
    for name, text in {"dvc.yaml": PIPELINE, ".gitignore": IGNORED, "src/reader.py": "", str(FILE): ""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    shutil.copy(sources.TOP / ".dvcignore", ".dvcignore")
    git("init", "-q", "-b", "main")
    Repo.init().close()
    configure("store", folder.parent / "remote")


def configure(name, url):
    with Repo() as repo, repo.config.edit() as config:
        config.setdefault("core", {}).update(remote=name, analytics=False)
        config["remote"] = {name: {"url": str(url)}}


def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


def commit(message):
    git("add", "-A")
    git("commit", "-qm", message)
    return git("rev-parse", "HEAD").strip()


def write(rows):
    """Write reviews (text, label) to the file of the project."""
    FILE.write_text("\n".join(["review,sentiment", *(f'"{text}",{label}' for text, label in rows)]) + "\n")


def repro():
    """Rebuild the data with the real stages, as far as DVC considers them stale."""
    made = Path("made")
    download.main(made / "reviews", made / "data_card.json", made / "data_card.md", Path(".cache/download"))
    clean.main(made / "reviews/reviews.parquet", made / "clean.parquet", made / "cleaning.json")
    split.main(made / "reviews", made / "clean.parquet", made / "splits", made / "test_set", made / "splits.json")
    with Repo() as repo:
        repo.reproduce()


def dvc(*words):
    return subprocess.run([sys.executable, "-m", "dvc", *words], check=True, capture_output=True, text=True).stdout
