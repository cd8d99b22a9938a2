"""The bibliography has what is cited, and nothing else."""

import ast
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: A year that is no part of a number, a date, a version or a count of something.
YEAR = re.compile(
    r"(?<![\w.,/*^:=-])(?:18\d\d|19\d\d|20[0-2]\d)"
    r"(?![\w/*^%]|[.,]\d|-\d| (?:epochs|runs|rows|steps))"
)

#: How far before its year the first author of a work may stand.
REACH = 260


def plain(text: str) -> str:
    """Without accents, and on one line."""
    letters = unicodedata.normalize("NFKD", " ".join(text.split()))
    return "".join(each for each in letters if not unicodedata.combining(each))


def entries(page: str) -> list[tuple[str, int]]:
    """First author's surname and year of every entry."""
    found = re.findall(r"^- ([^.]+?) (\d{4})\. \*", page, re.MULTILINE)
    return [(re.split(r", | & ", plain(authors))[0], int(year)) for authors, year in found]


def citations(text: str) -> Iterator[tuple[str, int]]:
    """Every year outside of tables, with what stands before it."""
    text = plain(re.sub(r"^\|.*$", "", text, flags=re.MULTILINE))
    for match in YEAR.finditer(text):
        yield text[max(0, match.start() - REACH) : match.start()], int(match[0])


def docstrings(source: str) -> Iterator[str]:
    """The docstrings of a module, and its comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""
    yield "\n".join(line.strip("# :") for line in source.splitlines() if line.lstrip()[:1] == "#")


def unknown(text: str, known: list[tuple[str, int]]) -> list[str]:
    """Years of a text that belong to no entry, each with what stands before."""
    return [
        f"{before[-60:]}{year}"
        for before, year in citations(text)
        if not any(year == y and re.search(rf"\b{name}\b", before) for name, y in known)
    ]


def texts() -> Iterator[tuple[str, str]]:
    """Everything that may cite: its place and its text."""
    for path in sorted([*ROOT.glob("ternvae/**/*.py"), *ROOT.glob("benchmarks/*.py")]):
        yield str(path.relative_to(ROOT)), "\n\n".join(docstrings(path.read_text()))
    for path in [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", *ROOT.glob("benchmarks/*.md")]:
        if path.name != "references.md" and path != ROOT / "docs" / "start.md":
            yield str(path.relative_to(ROOT)), path.read_text()


PAGE = (ROOT / "docs" / "references.md").read_text()


def test_every_line_of_the_list_is_read() -> None:
    assert len(entries(PAGE)) == len(re.findall("^- ", PAGE, re.MULTILINE)) > 30
    assert len(set(entries(PAGE))) == len(entries(PAGE))


def test_the_lists_are_in_order() -> None:
    for part in PAGE.split("\n## ")[1:]:
        names = [(name.lower().removeprefix("do "), year) for name, year in entries(part)]
        assert names == sorted(names)


def test_nothing_is_cited_that_is_not_listed() -> None:
    bad = {place: found for place, text in texts() if (found := unknown(text, entries(PAGE)))}
    assert bad == {}


def test_nothing_is_listed_that_is_not_cited() -> None:
    cited = [each for _, text in texts() for each in citations(text)]
    assert [
        entry
        for entry in entries(PAGE)
        if not any(y == entry[1] and re.search(rf"\b{entry[0]}\b", before) for before, y in cited)
    ] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("as in Ganea et al. 2018, eq. 12", 0),
        ("as in Ganea\net al. (2018)", 0),
        ("as in Ganea et al. 2019", 1),
        ("as in Nobody & Other 2018", 1),
        ("Bécigneul (2019) and Nobody, 1999, too", 1),
        ("2000 epochs of 1,935 rows in 2018-02-01 and 0.1990", 0),
    ],
)
def test_a_year_without_an_entry_is_found(text: str, found: int) -> None:
    assert len(unknown(text, entries(PAGE))) == found
