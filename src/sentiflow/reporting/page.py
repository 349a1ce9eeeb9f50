"""The Jinja environment of the HTML pages."""

import json

import jinja2


def environment() -> jinja2.Environment:
    """The templates and their filters. All values are escaped."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("sentiflow.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": "{:,}".format, "percent": "{:.1%}".format, "three": "{:.3f}".format, "p": p_value}
    found.filters["setting"] = lambda value: value if isinstance(value, str) else json.dumps(value)  # as in params.yaml
    return found


def p_value(p: float) -> str:
    """
    >>> p_value(0.2), p_value(1e-9)
    ('p = 0.200', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
