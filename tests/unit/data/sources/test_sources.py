"""Contract of every source."""

import re
from pathlib import Path
from typing import get_args

import pytest
import sources as made
from sources import download, settings

from sentiflow.config.params import Download
from sentiflow.data import data_card, source_changes
from sentiflow.data.sources import SOURCES
from sentiflow.data.sources.rows import Found, Origin
from sentiflow.data.sources.source import Files, Source, Url
from sentiflow.data.sources.terms import MAAS, PANG_LEE, UNKNOWN

every_source = pytest.mark.parametrize("name", SOURCES)
TWEETS = "text\tlabel\n" + "".join(f"tweet {i}\t{i % 3 - 1}\n" for i in range(60))


def write(name, *, more=False):
    """A small source with its settings; `more` adds a review."""
    here = Path("data/external")
    here.mkdir(parents=True, exist_ok=True)
    if name == "csv":
        (here / "reviews.csv").write_text(made.csv(41 if more else 40))
        return settings("csv", location="data/external/reviews.csv")
    if name == "tsv":
        (here / "tweets.tsv").write_text(TWEETS + "one more\t1\n" * more)
        return settings("tsv", location="data/external/tweets.tsv")
    texts = made.aclimdb(62 if more else 60)
    if name == "folder":
        made.unpack(here / "reviews", {re.sub(r"^[a-z]+/", "", file): text for file, text in texts.items()})
        return settings("folder", location="data/external/reviews")
    if name == "aclimdb":
        made.unpack(here / "aclImdb", texts)
        return settings("aclimdb", location="data/external/aclImdb")
    assert name == "package"
    return settings("package", sha256=None)


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source_changes, "TICK", 0.0)


def test_every_source_has_a_section_in_params():
    assert set(SOURCES) == set(get_args(Download.model_fields["source"].annotation))
    assert set(SOURCES) <= set(Download.model_fields)


@every_source
def test_source_reads_its_reviews_with_location_and_terms(name):
    p = write(name)
    found = download(p)
    assert len(found.reviews) >= 40
    assert set(found.classes) >= {"negative", "positive"}
    assert SOURCES[name].location(p.download) in (None, found.location)
    card = data_card.describe(found, name)
    assert any(terms in data_card.to_markdown(card) for terms in (MAAS, PANG_LEE, UNKNOWN))


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "package"])  # its file does not change
def test_fingerprint_depends_on_the_content(name):
    p = write(name)
    download(p)
    assert source_changes.changed(p) is None
    write(name, more=True)
    change = source_changes.changed(p)
    assert change is not None
    content = SOURCES[name].content(p.download)
    assert isinstance(content, Files)
    assert change.fingerprint == content.fingerprint()
    download(p)
    assert source_changes.changed(p) is None


@pytest.mark.parametrize("name", ["csv", "tsv", "aclimdb"])
def test_content_behind_a_url_is_its_url(name):
    p = settings(name, location="https://ann:secret@example.org/reviews")
    assert SOURCES[name].content(p.download) == Url("https://ann:secret@example.org/reviews", None)
    assert SOURCES[name].location(p.download) == "https://example.org/reviews"


@pytest.mark.parametrize(
    ("name", "section", "expected"),
    [
        ("package", {"part": "imdb"}, True),
        ("package", {"part": "rotten_tomatoes"}, False),
        ("aclimdb", {}, True),
        ("csv", {"location": "data/external/IMDB Dataset.csv"}, True),
        ("csv", {"location": "data/external/phones.csv"}, False),
        ("tsv", {"location": "data/external/tweets.tsv"}, True),
        ("tsv", {"location": "data/external/phones.tsv"}, False),
    ],
)
def test_published_scores_exist_for_imdb_and_the_tweets(name, section, expected):
    assert SOURCES[name].has_published(settings(name, **section).download) is expected


def test_a_folder_has_no_published_scores():
    assert SOURCES["folder"].has_published(write("folder").download) is False


@every_source
def test_rows_can_be_appended_to_tables_only(name):
    reason = SOURCES[name].no_append
    assert (reason is None) == (name in ("csv", "tsv"))


def test_a_source_is_one_entry(monkeypatch):
    rows = [Found("csv", "notes", i, f"text {i}", ("neg", "pos")[i % 2]) for i in range(40)]
    fingerprints = iter(["0" * 64, "1" * 64])
    files = [Path("params.yaml")]
    entry = Source(
        find=lambda p, folder: Origin("a database", "0" * 64, {"neg": "negative", "pos": "positive"}, rows),
        content=lambda p: Files("a database", files, lambda: files, lambda: next(fingerprints), lambda found: None),
        location=lambda p: "a database",
        terms=lambda kind, location: "Terms of the database.",
        has_published=lambda p: False,
    )
    monkeypatch.setitem(SOURCES, "csv", entry)
    p = settings("csv")
    found = download(p)
    assert found.reviews["label"].value_counts().to_dict() == {"negative": 20, "positive": 20}
    assert "Terms of the database." in data_card.to_markdown(data_card.describe(found, "csv"))
    monkeypatch.setattr(source_changes, "TICK", 1e9)  # no hash is cached
    assert source_changes.changed(p) is None
    assert source_changes.changed(p).in_words.startswith("a database: its SHA-256 is now 111111111111")
