"""Emoji characters. `cleaning` joins sequences of them, such as flags and families."""

import regex

# Unicode's emoji data without punctuation (‼), signs (© ® ™) and arrows, which are text by default.
EMOJI = (
    r"[[\p{Emoji}&&[\p{Extended_Pictographic}\p{Emoji_Presentation}]&&\p{S}]"
    r"--[\u00a9\u00ae\u2122\u2190-\u21ff\u27a1\u2934\u2935\u2b05-\u2b07]]"
)
KEYCAP = "\u20e3"  # encloses the preceding digit, # or *
KEYS = "0123456789#*"
_FIRST = regex.compile(f"{EMOJI}|[{KEYS}]{KEYCAP}", regex.V1)


def is_emoji(token: str) -> bool:
    """Whether a token of a cleaned text is an emoji.

    >>> is_emoji("\U0001f44d\U0001f3fd"), is_emoji("1\u20e3"), is_emoji("1"), is_emoji("\u2122")
    (True, True, False, False)
    """
    return _FIRST.match(token) is not None
