"""Public docstrings say what they must; the net that says so catches, and lets the rest through."""

from __future__ import annotations

import importlib
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import test_boundary

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci" / "docstrings.py"

# Scripts of one folder import one another by name, as they do when they are run.
sys.path.insert(0, str(SCRIPT.parent))
try:
    docstrings = importlib.import_module("docstrings")
    public_names = importlib.import_module("public_names")
finally:
    sys.path.remove(str(SCRIPT.parent))

PAGES = {
    "docs/page.md": "# Page\n\n## 2. The ball\n\n## By hand\n\n**Theorem 3 (sums).** So it is.\n"
}

ARGUMENTS = '''"""What is checked."""


def check_tensor(x: object) -> None:
    """Raise unless it is one."""
    if x is None:
        raise TypeError("x")
'''

HEAD = '''"""A room.

References:
    [AB] A. Author, "A Paper", 2001.
"""

from torch import Tensor

from ternvae.losses.arguments import check_tensor

__all__ = [{names}]

'''

GOOD = '''
def loss(x: Tensor, radius: Tensor, *, n: int = 2) -> Tensor:
    """The mean ([AB], section 2).

    Args:
        x: (batch, n) values.
        radius: (batch,) hyperbolic radii.
        n: how many.

    Returns:
        Scalar, in nats.

    Raises:
        TypeError: ``x`` is no tensor.
    """
    check_tensor(x)
    return x.mean()
'''


def complaints(body: str, *, head: str = HEAD, room: str = "losses") -> list[str]:
    """What is found in a room with this body, whose names without an underscore are public."""
    names = re.findall(r"^(?:def |class )?([A-Za-z]\w*)(?:\(| =|:)", body, re.MULTILINE)
    source = head.replace("{names}", ", ".join(map(repr, names))) + body
    files = {
        f"ternvae/{room}/__init__.py": source,
        "ternvae/losses/arguments.py": ARGUMENTS,
    }
    return [each.complaint for each in docstrings.findings(files, PAGES)]


def test_the_package_is_clean() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_linting_runs_it() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert ".ci/docstrings.py" in recipe


# --- what is public -------------------------------------------------------------------------


PACKAGE = public_names.Package(public_names.sources())


def test_public_names_are_those_that_can_be_imported() -> None:
    public = PACKAGE.public()
    assert len(public) > 200
    assert [each.name for each in public if pydoc.locate(each.name) is None] == []


def test_every_room_that_is_public_is_put_to_the_proof_at_its_boundary() -> None:
    there = {f"ternvae.{room}" for room in public_names.ROOMS} & PACKAGE.modules.keys()
    assert there <= {module.__name__ for module in test_boundary.MODULES}


def test_every_public_class_that_computes_is_put_to_the_proof_at_its_boundary() -> None:
    owners = {each.name.rpartition(".")[0] for each in PACKAGE.public() if each.owner is not None}
    classes = [pydoc.locate(name) for name in sorted(owners)]
    known = (*test_boundary.CLASSES, *test_boundary.HOLDERS)
    # What is only described has no code that could be put to the proof.
    assert [c for c in classes if c not in known and not getattr(c, "_is_protocol", False)] == []


def test_methods_of_an_ancestor_are_public_and_names_of_others_are_not() -> None:
    files = {
        "ternvae/padic/base.py": (
            "class Base:\n    def told(self): ...\n    def _own(self): ...\n"
            "    def __call__(self): ...\n"
        ),
        "ternvae/padic/__init__.py": (
            "from ternvae.padic import inner\nfrom ternvae.padic.base import Base as Root\n"
            "from torch import Tensor\n__all__ = ['Kind', 'Tensor', 'inner']\n"
            "class Kind(Root):\n    def told(self): ...\n    def more(self): ...\n"
        ),
        "ternvae/padic/inner.py": "__all__ = ['f']\ndef f(): ...\ndef g(): ...\n",
        "ternvae/training/thing.py": "__all__ = ['h']\ndef h(): ...\n",
    }
    found = public_names.Package(files).public()
    assert [(each.name, each.module.path.rpartition("/")[2]) for each in found] == [
        ("ternvae.padic.Kind", "__init__.py"),
        ("ternvae.padic.Kind.told", "__init__.py"),
        ("ternvae.padic.Kind.more", "__init__.py"),
        ("ternvae.padic.Kind.__call__", "base.py"),
        ("ternvae.padic.inner.f", "inner.py"),
    ]


# --- what is let through --------------------------------------------------------------------

FINE = {
    "a full docstring": GOOD,
    "one line without arguments": 'def names() -> list[str]:\n    """Names."""\n    return []\n',
    "a private function": GOOD + "\n\ndef _quiet(x):\n    return x\n",
    "a constant": "#: How many.\nMOST = 3\n",
    "fields": '''
from typing import NamedTuple

class Found(NamedTuple):
    """Two.

    Attributes:
        share: how many of all, in [0, 1].
        points: (n, d).
    """

    share: float
    points: Tensor
''',
    "handed on": GOOD
    + '''

def twice(x: Tensor, radius: Tensor, *, n: int = 2) -> Tensor:
    """Two of them. As in :func:`loss`."""
    return 2 * loss(x, radius, n=n)
''',
    "handed on twice, and a method": GOOD
    + '''

class Loss:
    """A loss."""

    def two(self, x: Tensor, radius: Tensor, *, n: int = 2) -> Tensor:
        """Two of them. As in :func:`ternvae.losses.loss`."""
        return 2 * loss(x, radius, n=n)

    def four(self, x: Tensor, radius: Tensor, *, n: int = 2) -> Tensor:
        """Four of them, as in :meth:`two`."""
        return 2 * self.two(x, radius, n=n)
''',
    "a page, a theorem, a heading": GOOD.replace(
        "([AB], section 2)", '(docs/page.md, theorem 3; docs/page.md, "By hand"; docs/page.md)'
    ),
    "a section of a page": GOOD.replace("([AB], section 2)", "(docs/page.md, section 2)"),
    "the source of its class": '''
class Mean:
    """By definition the mean."""

    def of(self, x: Tensor) -> Tensor:
        """The mean.

        Args:
            x: of any shape.

        Returns:
            Scalar.
        """
        return x.mean()
''',
    "an error that is caught": '''
def tried(n: int) -> bool:
    """Whether it can be.

    Args:
        n: a number.

    Returns:
        Whether.
    """
    try:
        check_tensor(n)
        raise ValueError(n)
    except (TypeError, ValueError):
        return False
''',
    "an error of ours by what it is": '''
class OddError(ValueError):
    """It is odd."""


def odd(n: int) -> None:
    """Refuse.

    Args:
        n: a number.

    Raises:
        ValueError: it is odd.
    """
    raise OddError(n)
''',
    "literals": '''
def norm() -> str:
    """``|x|`` and ``*`` and 2 * 3 * 4.

    A block::

        |x| * |y|
    """
    return ""
''',
}


@pytest.mark.parametrize("body", FINE.values(), ids=FINE)
def test_what_is_documented_passes(body: str) -> None:
    assert complaints(body) == []


# --- what is caught -------------------------------------------------------------------------

CAUGHT = {
    "no docstring": ("def f() -> None:\n    return\n", "has no docstring"),
    "a bare constant": ("\n\nMOST = 3\n", "has no comment above it that begins with #:"),
    "an argument": (GOOD.replace("        n: how many.\n", ""), "n is not under Args"),
    "a stranger": (
        GOOD.replace("n: how many.", "n: how many.\n        m: more."),
        "Args has m, which is no parameter",
    ),
    "a shape": (GOOD.replace("(batch, n) values", "values"), "Args does not say the shape of x"),
    "an interval is no shape": (
        GOOD.replace("(batch, n) values", "values in (0, 1)"),
        "Args does not say the shape of x",
    ),
    "a citation is no shape": (
        GOOD.replace("(batch, n) values", "values (Author et al. 2001, section 2)"),
        "Args does not say the shape of x",
    ),
    "a shape of the result": (
        GOOD.replace("Scalar, in nats", "In nats"),
        "does not say the shape of what it returns",
    ),
    "a unit": (
        GOOD.replace("hyperbolic radii", "numbers"),
        "Args does not say the unit of radius",
    ),
    "a unit of the result": (
        GOOD.replace("def loss", "def distance").replace(", in nats", ""),
        "does not say the unit of what it returns",
    ),
    "a result": (
        GOOD.replace("    Returns:\n        Scalar, in nats.\n\n", "").replace(
            "The mean (", "The mean, a scalar ("
        ),
        "has Args and no Returns",
    ),
    "an error of a checker": (
        GOOD.replace("TypeError: ``x``", "ValueError: ``x``"),
        "can raise TypeError, which is not under Raises",
    ),
    "an error of its own": (
        GOOD.replace("    return x", "    if n:\n        raise KeyError(n)\n    return x"),
        "can raise KeyError, which is not under Raises",
    ),
    "an error of a helper": (
        GOOD.replace("    return x", "    _refuse(n)\n    return x")
        + "\n\ndef _refuse(n: int) -> None:\n    raise OSError(n)\n",
        "can raise OSError, which is not under Raises",
    ),
    "an error that a helper makes": (
        GOOD.replace("    return x", "    if n:\n        raise _error(n)\n    return x")
        + "\n\ndef _error(n: int) -> LookupError:\n    return LookupError(n)\n",
        "can raise LookupError, which is not under Raises",
    ),
    "an error of a constructor": (
        'class Kind:\n    """A kind."""\n\n    def __init__(self):\n        raise ValueError\n',
        "can raise ValueError, which is not under Raises",
    ),
    "a source": (GOOD.replace(" ([AB], section 2)", ""), "names no source"),
    "a key": (
        GOOD.replace("[AB]", "[XY]"),
        "refers to [XY], which ternvae/losses/__init__.py does not declare",
    ),
    "a page": (
        GOOD.replace("([AB], section 2)", "(docs/none.md)"),
        "refers to docs/none.md, which is not there",
    ),
    "a theorem": (
        GOOD.replace("([AB], section 2)", "(docs/page.md, theorems 3 and 4)"),
        "refers to theorems 3 and 4 of docs/page.md, which is not there",
    ),
    "a section": (
        GOOD.replace("([AB], section 2)", "(docs/page.md, section 4)"),
        "refers to section 4 of docs/page.md, which is not there",
    ),
    "a heading": (
        GOOD.replace("([AB], section 2)", '(docs/page.md, "By heart")'),
        'refers to "By heart" of docs/page.md, which is not there',
    ),
    "Any": (
        GOOD.replace("n: int", "n: Any"),
        "n is Any; name its type, or put ('losses.loss', 'n') into ANY with the reason",
    ),
    "Any in a union": (
        GOOD.replace("-> Tensor", "-> Any | None"),
        "return is Any; name its type, or put ('losses.loss', 'return') into ANY with the reason",
    ),
    "a field": (
        'import typing\n\n\nclass Pair(typing.NamedTuple):\n    """Two."""\n\n    n: int\n',
        "n is not under Attributes",
    ),
    "nobody to hand on to": (
        'def f() -> None:\n    """As in :func:`nobody`."""\n',
        "hands on to nobody, which is not found from ternvae/losses/__init__.py",
    ),
    "what is handed on has gaps": (
        GOOD + '\n\ndef more(x: Tensor, k: int) -> Tensor:\n    """As in :func:`loss`."""\n',
        "k is not under Args",
    ),
    "a substitution": (
        'def f() -> None:\n    """The norm |x| of it."""\n',
        "|x| is a substitution to Sphinx; write ``|x|``",
    ),
    "backticks": (
        'def f() -> None:\n    """The norm ``x of it."""\n',
        "unbalanced backticks in 'The norm ``x of it.'",
    ),
    "emphasis": (
        'def f() -> None:\n    """The names *args of it."""\n',
        "an asterisk opens emphasis in '*args of it.'; use double backticks",
    ),
}


@pytest.mark.parametrize(("body", "complaint"), CAUGHT.values(), ids=CAUGHT)
def test_what_is_missing_is_caught(body: str, complaint: str) -> None:
    assert complaints(body) == [complaint]


def test_only_mathematical_rooms_need_sources() -> None:
    body = GOOD.replace(" ([AB], section 2)", "")
    assert complaints(body, room="models") == []


def test_a_reference_without_its_year_declares_nothing() -> None:
    (complaint,) = complaints(GOOD, head=HEAD.replace(", 2001", ""))
    assert complaint == "refers to [AB], which ternvae/losses/__init__.py does not declare"


def test_an_exemption_that_is_not_needed_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(docstrings.ANY, ("losses.loss", "n"), "there is no better one")
    assert complaints(GOOD.replace("n: int", "n: Any")) == []
    assert complaints(GOOD) == ["n is in ANY and not Any; mend ANY"]
