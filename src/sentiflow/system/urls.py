"""Remove credentials from URLs before they are shown, stored or compared."""

import re
from urllib.parse import urlsplit, urlunsplit


def without_user(text: str) -> str:
    """A text without users and passwords in its URLs.

    >>> without_user("no answer from https://ann:sec@ret@example.org/a?token=1")
    'no answer from https://example.org/a?token=1'
    """
    return re.sub(r"//[^/\s]*@", "//", text)


def without_secrets(text: str) -> str:
    """A text without users, passwords, queries and fragments in its URLs.

    >>> without_secrets("no answer from https://ann:secret@example.org/a?token=1")
    'no answer from https://example.org/a'
    """
    return re.sub(r"(?i)(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*://[^\s'\"?#]*)[^\s'\"]*", r"\1", without_user(text))


def public(url: str) -> str:
    """A URL, which may contain spaces, without user, password, query and fragment.

    >>> public("https://ann:secret@example.org:8443/a file.csv?token=12")
    'https://example.org:8443/a file.csv'
    """
    scheme, host, path, _, _ = urlsplit(url)
    return urlunsplit((scheme, host.rpartition("@")[2], path, "", ""))
