"""Explain predictions of each model by weights of words, and test whether attended words matter.

from  reviews       raw texts, for examples if params.yaml has no sentences
      models        configuration and weights of each model
      tokens        vocabularies, and test as ragged word ids
      predictions   of each model on test
      comparison    the models, best on valid first
to    explanations  as JSON, as a page (Markdown), and a heatmap per text and model
"""

from pathlib import Path

from sentiflow.config import params
from sentiflow.data import vocabulary
from sentiflow.data.stopwords import Stopwords
from sentiflow.models import explanation
from sentiflow.reporting import heatmap
from sentiflow.system import artifacts, stage


def main(
    reviews_file: Path, models_dir: Path, tokens_dir: Path, predictions_dir: Path, comparison_file: Path, explanations_dir: Path
) -> None:
    p = params.load()
    names = [model["architecture"] for model in artifacts.read_json(comparison_file)["models"]]
    texts = p.explain.sentences
    if texts is None:
        raw = artifacts.read_table(reviews_file, ["row", "text"]).to_pandas().set_index("row")["text"]
        answers = artifacts.read_frame(predictions_dir / names[0] / "test.parquet")
        texts = explanation.examples(raw, answers, vocabulary.read_classes(tokens_dir))
    explained, deletions = [], []
    with stage.writing(explanations_dir) as (place,):
        place.mkdir()
        for name in names:
            model = explanation.read(models_dir / name, tokens_dir)
            found = explanation.explain(model, texts, stopwords=Stopwords(p.clean.language, p.clean.keep_negations))
            for number, (text, each) in enumerate(zip(texts, found, strict=True), start=1):
                figure = place / f"{name}_{number}.png"
                heatmap.draw(each, f"{name}, text {number}", figure, words_a_row=p.explain.words_a_row)
                explained.append(explanation.as_data(name, text, each))
            stage.log.info("%s: explained %s texts by %s", name, len(found), found[0].method)
            if explanation.has_attention(model):
                test = vocabulary.read_tokens(tokens_dir / "test.parquet", model.config.settings.view)
                checked = explanation.deletion(model, test.ids, p.explain, confidence=p.evaluate.confidence, seed=p.seed)
                deletions.append({"architecture": name} | checked)
                stage.log.info("%s: %s", name, explanation.finding(checked))
        data = {"explanations": explained, "deletion": deletions}
        artifacts.write_json(place / "explanations.json", data)
        (place / "explanations.md").write_text(explanation.as_markdown(explained, deletions), encoding="utf-8")
    stage.log.info("wrote the explanations to %s", explanations_dir)


if __name__ == "__main__":
    stage.run(main)
