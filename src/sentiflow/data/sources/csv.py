"""Reviews in CSV, JSON lines or Parquet files."""

from sentiflow.data.sources import tables

SOURCE = tables.source("csv", published="imdb")
