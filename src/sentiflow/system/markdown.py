"""Markdown tables that are also aligned as plain text."""

import html
import re
from collections.abc import Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table.

    >>> markdown(["a", "b"], [["1", "two"]])
    ['| a | b   |', '| - | --- |', '| 1 | two |']
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    table = [header, ["-" * width for width in widths], *rows]
    return ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table]


def cell(text: str) -> str:
    """Any text as one table cell: on one line, with Markdown and HTML escaped.

    >>> cell("a | b\\n<i> ![](x)")
    'a \\\\| b &lt;i&gt; !\\\\[\\\\](x)'
    """
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(re.sub(r"([\\|`*_~$\[\]])", r"\\\1", plain).split())


def plain(page: str) -> str:
    """Markdown for a terminal, without the escapes of `cell`.

    >>> plain("nb\\\\_svm &lt; lstm")
    'nb_svm < lstm'
    """
    return html.unescape(re.sub(r"\\([\\|`*_~$\[\]])", r"\1", page))
