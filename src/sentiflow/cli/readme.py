"""Fills the README's tables, between their markers: `python -m sentiflow.cli.readme`."""

import ast
from importlib import resources, util
from pathlib import Path

from sentiflow.evaluation import comparison
from sentiflow.models.networks import ARCHITECTURES
from sentiflow.pipeline import recipes
from sentiflow.system import artifacts, entry_point, markdown


def filled(page: str, name: str, table: str) -> str:
    """The page with what stands between the markers of that name replaced by the table."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}{table}{end}{after}"


def architectures() -> str:
    """Every architecture, the first sentence that its file says of it, and the recipe it comes from, as a Markdown table."""
    book = recipes.read(resources.files("sentiflow.pipeline") / "recipes.yaml").recipes
    rows = []
    for name, module in ARCHITECTURES.items():
        of_name = [recipe for recipe, told in book.items() if told.architecture == name]
        rows.append([f"`{name}`", _first_sentence(module), ", ".join(of_name)])
    return "\n".join(markdown.markdown(["model", "how it reads a review", "recipe"], rows)) + "\n"


def _first_sentence(module: str) -> str:
    spec = util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).removesuffix(".")


def main() -> None:
    file = Path("README.md")
    page = file.read_text(encoding="utf-8")
    page = filled(page, "comparison", comparison.as_summary(artifacts.read_json(Path("metrics/comparison.json"))))
    page = filled(page, "architectures", architectures())
    file.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    with entry_point.handled():
        main()
