"""Sphinx settings: pages in MyST Markdown, the reference from docstrings, which are plain text with `code`."""

import re
import textwrap
from importlib.metadata import version as installed_version
from pathlib import Path

from nmsim_analysis.constants import model_card
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
suppress_warnings = ["ref.python"]  # a type in a signature, such as bytes, may also be the name of a field
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["torch"]  # an extra

CODE = re.compile(r"(`[^`]+`)")
MARKUP = re.compile(r"([*|\\]|(?<=\w)_(?!\w))")


def as_plain_text(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Read a docstring's sections; outside them reStructuredText sees only `code` and blocks of equations."""
    paragraphs = "\n".join(lines).split("\n\n")
    text = "\n\n".join(equations(part) if is_equations(part) else escaped(part) for part in paragraphs)
    lines[:] = GoogleDocstring(text, NapoleonConfig(napoleon_use_ivar=True)).lines()


def is_equations(paragraph: str) -> bool:
    """Whether lines are laid out by hand: a flush first line, and a later one that is indented."""
    first, *rest = paragraph.split("\n")
    return not first.startswith(" ") and not first.endswith(":") and any(line.startswith(" ") for line in rest)


def equations(paragraph: str) -> str:
    """The paragraph as it stands."""
    return "::\n\n" + textwrap.indent(paragraph, "   ")


def escaped(paragraph: str) -> str:
    """The paragraph with `|x|`, `*` and a trailing underscore meaning themselves."""
    pieces = CODE.split(paragraph)
    return "".join(f"`{piece}`\\ " if piece.startswith("`") else MARKUP.sub(r"\\\1", piece) for piece in pieces)


def write_model_card(app: Sphinx) -> None:
    """Leave the page of the constants where the other pages are, unless it is there already."""
    path, card = Path(app.srcdir) / "constants.md", model_card()
    if not path.exists() or path.read_text(encoding="utf-8") != card:
        path.write_text(card, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Read docstrings here rather than with napoleon, which takes a property's words before a colon for a type."""
    app.connect("autodoc-process-docstring", as_plain_text)
    app.connect("builder-inited", write_model_card)
