"""Formulas between dollars: as GitHub shows them, too, which reads them as Markdown first."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, prose
from tests.docs.test_running import ids

_FORMULA = re.compile(r"(?P<mark>\$\$?)(?P<tex>[^$]+)(?P=mark)")

#: What Markdown takes for itself, or GitHub refuses, inside of a formula.
_MISREAD = {
    r"\\[^A-Za-z]": "a backslash before a sign is taken for an escape",
    r"(?<![A-Za-z0-9])_": "an underscore after a sign may open emphasis",
    r"\*": "an asterisk may open emphasis",
    r"<(?! )|(?<! )<": "an angle bracket without spaces may open a tag",
    r"\|": r"a bar divides cells of a table; write \lvert, \rvert or \mid",
    r"~": "a tilde may strike out",
    r"\]\(": "is a link",
    r"\\(operatorname|def|newcommand|require|href)\b": "is refused",
}


def formulas(text: str) -> list[str]:
    """The TeX of every formula of a page."""
    return [match["tex"] for match in _FORMULA.finditer(prose(text))]


def misread(text: str) -> Iterator[str]:
    """What is wrong with the formulas of a page, each with the formula."""
    # Names of commands hold dollars only in blocks and between backticks.
    plain = prose(text)
    if plain.count("$") % 2:
        yield "an odd number of dollars"
    for match in _FORMULA.finditer(plain):
        tex, display = match["tex"], match["mark"] == "$$"
        yield from (f"{why}: {tex}" for sign, why in _MISREAD.items() if re.search(sign, tex))
        before, after = plain[: match.start()], plain[match.end() :]
        if display:
            if not re.search(r"\n\n\Z", before) or not re.match(r"\n\n", after):
                yield f"no paragraph of its own: {tex}"
            if any(line.lstrip()[:1] in "=+-#>" for line in tex.strip().splitlines()):
                yield f"a line that begins like a list or a heading: {tex}"
        else:
            if "\n" in tex:
                yield f"more than one line: {tex}"
            alone = re.search(r"(^|[\s(])\Z", before) and re.match(r"[\s.,;:)]|\Z", after)
            if tex != tex.strip() or not alone:
                yield f"no formula, for what stands beside it: {tex}"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_formulas_are_read_as_formulas(page: Path) -> None:
    assert list(misread(page.read_text())) == []


def test_formulas_were_found() -> None:
    page = next(page for page in PAGES if page.name == "theory.md")
    assert len(formulas(page.read_text())) > 300


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"With $n$ digits ($v < n$), $\lvert x_i \rvert$.", 0),
        ("So\n\n$$\na_1 = b_1\n$$\n\nholds.", 0),
        ("`$HOME` and\n\n```\n$ ls\n```\n", 0),
        (r"$\lbrace x \mid y\,z \rbrace$", 1),
        ("$|x|$", 1),
        ("$(x)_1 (y)_2$", 1),
        ("$a * b$", 1),
        ("$a<b$", 1),
        ("$k$th of the $-$signs", 2),
        ("the $a\n= b$", 1),
        ("So\n$$\na\n$$\n", 1),
        ("So\n\n$$\na\n= b\n$$\n\n", 1),
        (r"$\operatorname{f}$", 1),
        ("5 $", 1),
    ],
)
def test_what_would_be_misread_is_seen(text: str, found: int) -> None:
    assert len(list(misread(text))) == found


@pytest.mark.parametrize(
    ("tex", "complaint"),
    [(r"\sqrt{c} < 1", ""), (r"\squrt{c} < 1", r"\squrt"), (r"\frac{1}", "argument")],
)
def test_tex_that_is_not_understood_stops_the_build(
    tmp_path: Path, tex: str, complaint: str
) -> None:
    pytest.importorskip("math_core", reason="the extra docs is not installed")
    (tmp_path / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'docs' / '_extensions')!r})\n"
        "extensions = ['myst_parser', 'mathml']\nmyst_enable_extensions = ['dollarmath']\n"
        "html_math_renderer = 'mathml'\n"
    )
    (tmp_path / "index.md").write_text(f"# Title\n\nWith ${tex}$, so.\n")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-qW", str(tmp_path), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode == 0) == (complaint == ""), built.stderr
    assert complaint in built.stderr
    if not complaint:
        page = (tmp_path / "site" / "index.html").read_text()
        assert '<span class="kept"><math><msqrt><mi>c</mi></msqrt><mo>&lt;</mo>' in page
        assert "</math>,</span> so." in page
