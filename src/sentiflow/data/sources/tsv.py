"""Tab-separated reviews without quotes, as tweets are published."""

from sentiflow.data.sources import tables

SOURCE = tables.source("tsv", published="tweets")
