"""Puts the comparison of the committed results between the README's markers: `make readme`."""

from pathlib import Path

from sentiflow import comparison, files

BEGIN, END = "<!-- comparison: begin -->\n", "<!-- comparison: end -->"


def with_comparison(page: str, table: str) -> str:
    """The page with what stands between its markers replaced by the table."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{table}{END}{after}"


def main() -> None:
    page, results = Path("README.md"), Path("metrics/comparison.json")
    table = comparison.as_summary(files.read_json(results))
    page.write_text(with_comparison(page.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    main()
