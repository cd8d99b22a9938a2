"""Formulas as MathML, made when the site is built: browsers show it without scripts or network.

TeX that is not understood is a warning, so that ``sphinx-build -W`` fails.
"""

import re
from html import escape
from typing import Any

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

_logger = getLogger(__name__)
_converter = LatexToMathML(fancy_error=False)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.connect("doctree-resolved", _keep_with_punctuation)
    return {"version": "1", "parallel_read_safe": True}


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_mathml(node, displaystyle=False))
    raise nodes.SkipNode


def _display(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{_mathml(node, displaystyle=True)}</div>')
    raise nodes.SkipNode


def _mathml(node: nodes.math | nodes.math_block, *, displaystyle: bool) -> str:
    tex = node.astext()
    try:
        return _converter.convert_with_local_state(tex, displaystyle=displaystyle)
    except LatexError as error:
        _logger.warning("TeX that is not understood: %s in %s", error, tex, location=node)
        return escape(tex)


def _keep_with_punctuation(app: Sphinx, tree: nodes.document, page: str) -> None:
    # Browsers break lines between a formula and what they would not tear from a word.
    for formula in list(tree.findall(nodes.math)):
        parent = formula.parent
        place = parent.index(formula)
        kept = nodes.inline("", "", formula.deepcopy(), classes=["kept"])
        after = parent[place + 1] if place + 1 < len(parent) else None
        if isinstance(after, nodes.Text) and (sign := re.match(r"[.,;:)]+", after)):
            kept += nodes.Text(sign[0])
            parent[place + 1] = nodes.Text(after[sign.end() :])
        before = parent[place - 1] if place else None
        if isinstance(before, nodes.Text) and before.endswith("("):
            kept.insert(0, nodes.Text("("))
            parent[place - 1] = nodes.Text(before[:-1])
        parent[place] = kept
