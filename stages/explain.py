"""Show which words each architecture's answers rest on, and whether attended words matter.

from  models        configuration and weights of each architecture
      tokens        vocabularies, and test as ragged word ids
to    explanations  as data (JSON), as a page (Markdown), and a heatmap of each sentence under each architecture
"""

import json
from pathlib import Path

from sentiflow import explanation, heatmap, params, stage, vocabulary


def main(models_dir: Path, tokens_dir: Path, explanations_dir: Path) -> None:
    p = params.load()
    explained, deletions = [], []
    with stage.writing(explanations_dir) as (place,):
        place.mkdir()
        for name in p.run:
            model = explanation.read(models_dir / name, tokens_dir)
            found = explanation.explain(model, p.explain.sentences, keep_negations=p.clean.keep_negations)
            for number, (sentence, each) in enumerate(zip(p.explain.sentences, found, strict=True), start=1):
                figure = place / f"{name}_{number}.png"
                heatmap.draw(each, f"{name}, sentence {number}", figure, words_a_row=p.explain.words_a_row)
                explained.append(explanation.as_data(name, sentence, each))
            stage.log.info("%s: weighed the words of %s sentences by %s", name, len(found), found[0].method)
            if explanation.has_attention(model):
                test = vocabulary.read_tokens(tokens_dir / "test.parquet", model.settings["view"])
                checked = explanation.deletion(
                    model,
                    test.ids,
                    p.explain,
                    confidence=p.evaluate.confidence,
                    seed=p.seed,
                )
                deletions.append({"architecture": name} | checked)
                stage.log.info("%s: %s", name, explanation.finding(checked))
        data = {"explanations": explained, "deletion": deletions}
        (place / "explanations.json").write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (place / "explanations.md").write_text(explanation.as_markdown(explained, deletions), encoding="utf-8")
    stage.log.info("wrote the explanations to %s", explanations_dir)


if __name__ == "__main__":
    stage.run(main)
