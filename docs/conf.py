"""Settings of Sphinx: ``make docs`` builds these pages as HTML that needs no network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import pydantic
from sphinx.application import Sphinx

import ternvae

project = "ternvae"
author = "The ternvae developers"
copyright = "The ternvae developers, Apache License 2.0"
version = release = ternvae.__version__
language = "en-GB"
smartquotes = False  # "--seed" and "0 ... n" are meant as they stand

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "commands",
    "constants",
    "mathml",
    "outside",
    "sources",
]

# README.md is the index of this folder for readers of the repository; index.md includes it.
exclude_patterns = ["README.md"]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_dmath_allow_space = False  # a dollar in prose is none of a formula
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# The first sentence of a class says what it is; arguments stand with it, not at __init__.
autoclass_content = "class"

default_role = "code"  # what docstrings have between single backticks

html_theme = "furo"
html_title = f"ternvae {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
highlight_language = "none"
pygments_style = "default"
pygments_dark_style = "monokai"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _without_constraints)


def _without_constraints(
    app: Sphinx, what: str, name: str, obj: object, options: object, given: str, returned: str
) -> tuple[str, str] | None:
    # Pydantic makes the fields of a profile into pages of annotations; keys.md has them all.
    profile = isinstance(obj, type) and issubclass(obj, pydantic.BaseModel)
    return ("(**sections)", "") if profile else None
