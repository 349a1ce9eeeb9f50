import pytest

from sentiflow.data.stopwords import Stopwords
from sentiflow.models import sentiment_model


@pytest.fixture(scope="module")
def model(trained, tmp_path_factory):
    """A small model in the form in which it is registered."""
    model_dir, tokens_dir, _, _ = trained
    folder = tmp_path_factory.mktemp("served") / "bundle"
    stopwords = Stopwords("english", keep_negations=True)
    sentiment_model.bundle(folder, model_dir=model_dir, tokens_dir=tokens_dir, stopwords=stopwords)
    return sentiment_model.SentimentModel.load(folder)
