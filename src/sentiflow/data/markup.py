"""Removes HTML from texts, but only what is certain to be markup."""

import re

# Element names of the HTML standard, obsolete ones included.
_NAMES = (
    "a abbr acronym address applet area article aside audio b base basefont bdi bdo bgsound big blink blockquote body br button "
    "canvas caption center cite code col colgroup data datalist dd del details dfn dialog dir div dl dt em embed fieldset "
    "figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe image img input ins "
    "isindex kbd keygen label legend li link listing main map mark marquee math menu menuitem meta meter multicol nav nextid "
    "nobr noembed noframes noscript object ol optgroup option output p param picture plaintext pre progress q rb rbc rp rt rtc "
    "ruby s samp script search section select selectedcontent slot small source spacer span strike strong style sub summary sup "
    "svg table tbody td template textarea tfoot th thead time title tr track tt u ul var video wbr xmp"
)
ELEMENTS = frozenset(_NAMES.split())

# `</b>`, `<br />` or a tag with attributes, but not `<happy>`, `<i love it>`, `<b and c>` or `<3`.
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9]*+)(?:\s*+/?|\s(?=[^<>]*+>)[^<>]*?[A-Za-z]=[^<>]*+)>")
_DOCTYPE = re.compile(r"<!(?i:doctype)\s[^<>]*+>")
_WITH_CONTENT = (
    (re.compile(r"<(?i:script)(?:\s[^<>]*+)?>"), re.compile(r"</(?i:script)\s*+>")),
    (re.compile(r"<(?i:style)(?:\s[^<>]*+)?>"), re.compile(r"</(?i:style)\s*+>")),
    (re.compile(r"<!--"), re.compile(r"-->")),
)
_OTHER_MARKUP = re.compile(r"<(?:!|[Ss][CcTt])")


def removed(text: str) -> str:
    """Replaces each tag and each comment by a space, and scripts and styles including their content.

    >>> removed("one<br />two <happy> <b>3</b> < 4<!-- five -->")
    'one two <happy>  3  < 4 '
    """
    if "<" not in text:
        return text
    if _OTHER_MARKUP.search(text):
        for start, end in _WITH_CONTENT:
            text = _without_content(text, start, end)
        text = _DOCTYPE.sub(" ", text)
    return _TAG.sub(lambda tag: " " if tag[1].lower() in ELEMENTS else tag[0], text)


def _without_content(text: str, start: re.Pattern[str], end: re.Pattern[str]) -> str:
    kept, place = [], 0
    while (opened := start.search(text, place)) and (closed := end.search(text, opened.end())):
        kept += [text[place : opened.start()], " "]
        place = closed.end()
    return "".join([*kept, text[place:]])
