"""Terminal output. Control characters in texts, file names and messages of other programs are escaped."""

import logging
import sys
from collections.abc import Iterable
from typing import NoReturn

LINE = "  %(message)s"


def printable(text: str) -> str:
    """Any text with non-printing characters escaped, except newlines and tabs.

    >>> printable("caf\\u00e9\\n\\x1b[2J \\u202e \\udcff")
    'café\\n\\\\x1b[2J \\\\u202e \\\\udcff'
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode() for each in text)


def some(names: Iterable[str], *, most: int = 10) -> str:
    """Names for a sentence; of a long list the first ones and the number of the others.

    >>> some("ab"), some("abcd", most=2)
    ('a, b', 'a, b and 2 more')
    """
    shown = list(names)
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def tell(text: str, *, flush: bool = False) -> None:
    """Print text that may be untrusted. Characters that the terminal's encoding lacks are escaped too."""
    encoding = sys.stdout.encoding or "utf-8"
    print(printable(text).encode(encoding, "backslashreplace").decode(encoding), flush=flush)


def refuse(message: str, status: int = 1) -> NoReturn:
    """Exit the process with one message."""
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(status)


def show_log(line: str = LINE, *, force: bool = False) -> None:
    """Send the log to standard error.

    Args:
        force: replace existing handlers.
    """
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # logs tracebacks of errors that it raises too
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable(line))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=force)


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
