"""Update the generated tables of README.md: `python -m sentiflow.cli.readme`."""

import ast
from importlib import resources, util
from pathlib import Path

from sentiflow.evaluation import comparison
from sentiflow.models import networks, settings
from sentiflow.pipeline import recipes
from sentiflow.system import artifacts, entry_point, markdown


def filled(page: str, name: str, table: str) -> str:
    """The page with the text between the markers of that name replaced by the table."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}{table}{end}{after}"


def models() -> str:
    """Markdown table of the networks: first sentence of the docstring, models, and the recipes of the models."""
    p = settings.load()
    book = recipes.read(resources.files("sentiflow.pipeline") / "recipes.yaml").recipes
    rows = []
    for network in networks.NETWORKS:
        named = []
        for model in p.models:
            if p.networks[model] == network:
                of_model = ", ".join(name for name, recipe in book.items() if recipe.model == model)
                named.append(f"`{model}`" + (f" ({of_model})" if of_model else ""))
        rows.append([f"`{network}`", _first_sentence(network), ", ".join(named)])
    return "\n".join(markdown.markdown(["network", "how it reads a text", "models (recipe)"], rows)) + "\n"


def _first_sentence(network: str) -> str:
    spec = util.find_spec(f"sentiflow.models.networks.{network}")
    assert spec is not None
    assert spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).removesuffix(".")


def main() -> None:
    file = Path("README.md")
    page = file.read_text(encoding="utf-8")
    page = filled(page, "comparison", comparison.as_summary(artifacts.read_json(Path("metrics/comparison.json"))))
    page = filled(page, "models", models())
    file.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    with entry_point.handled():
        main()
