"""What a terminal is given: nothing in a text, the name of a file, or a message from elsewhere can steer it."""

import logging
import sys
from collections.abc import Iterable
from typing import NoReturn

LINE = "  %(message)s"
LOUD = "mlflow.store.db.utils"  # logs a traceback of what is raised anyway, and told in one line


def printable(text: str) -> str:
    """Any text with what does not print escaped; its lines and tabs stay.

    >>> printable("caf\\u00e9\\n\\x1b[2J \\u202e \\udcff")
    'café\\n\\\\x1b[2J \\\\u202e \\\\udcff'
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text)


def some(names: Iterable[str], *, most: int = 10) -> str:
    """A list of names for a sentence; of a long one the first names and how many more there are.

    >>> some("ab"), some("abcd", most=2)
    ('a, b', 'a, b and 2 more')
    """
    shown = list(names)
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def tell(text: str, *, flush: bool = False) -> None:
    """Prints what may come from elsewhere; what the terminal's encoding lacks is escaped as well."""
    encoding = sys.stdout.encoding or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), flush=flush)


def refuse(message: str, status: int = 1) -> NoReturn:
    """Ends the process with one message."""
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(status)


def show_log(line: str = LINE, *, force: bool = False) -> None:
    """From now on the log's lines go to standard error.

    Args:
        force: also where somebody has set up the log already.
    """
    logging.getLogger(LOUD).setLevel(logging.CRITICAL)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable(line))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=force)


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
