"""Sphinx settings: pages in MyST Markdown, the reference from docstrings, which are plain text with `code`."""

import re
from importlib.metadata import version as installed_version

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config as NapoleonConfig
from sphinx.ext.napoleon import GoogleDocstring

project = "nmsim"
author = "the nmsim developers"
release = version = installed_version("nmsim")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
html_theme = "furo"
html_title = f"nmsim {version}"
exclude_patterns = ["_build"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

CODE = re.compile(r"(`[^`]+`)")
MARKUP = re.compile(r"([*|\\]|(?<=\w)_(?!\w))")


def as_plain_text(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Read a docstring's sections; outside them reStructuredText sees only `code`: `|x|` and `*` mean themselves."""
    pieces = CODE.split("\n".join(lines))
    escaped = (f"`{piece}`\\ " if piece.startswith("`") else MARKUP.sub(r"\\\1", piece) for piece in pieces)
    lines[:] = GoogleDocstring("".join(escaped), NapoleonConfig(napoleon_use_ivar=True)).lines()


def setup(app: Sphinx) -> None:
    """Read docstrings here rather than with napoleon, which takes a property's words before a colon for a type."""
    app.connect("autodoc-process-docstring", as_plain_text)
