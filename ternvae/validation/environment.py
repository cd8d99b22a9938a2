"""Whether what is installed is what the package was declared to work with, and repeats itself."""

from __future__ import annotations

import operator
import platform
import re
from functools import partial
from importlib import metadata
from itertools import zip_longest

import torch

from ternvae import manifolds, padic
from ternvae.manifolds import programs
from ternvae.validation import specimens
from ternvae.validation.checks import (
    EXACT,
    CheckFunction,
    Finding,
    at_most,
    both,
    none_of,
    worst,
)

__all__ = ["CHECKS", "declared_ranges", "satisfies"]

_PACKAGE = "ternvae"

#: Libraries with a line of their own; the others share one.
_NAMED = ("torch", "geoopt", "numpy", "scipy")

_COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


# --- versions -------------------------------------------------------------------------------


def declared_ranges() -> dict[str, str]:
    """Library -> range of versions, as the metadata of the installed package declares them.

    Raises:
        importlib.metadata.PackageNotFoundError: the package is not installed.
        ValueError: a requirement that is not a name and a range.
    """
    ranges = {}
    for requirement in metadata.requires(_PACKAGE) or ():
        wanted, _, marker = requirement.partition(";")
        if "extra" in marker:  # needed by developers, not by users
            continue
        parts = re.fullmatch(
            r"([\w.-]+)\s*(?:\[[^]]*\])?\s*\(?([<>=!~][^()]*|)\)?\s*", wanted.strip()
        )
        if parts is None:
            raise ValueError(f"cannot read the requirement {requirement!r}")
        # Lower bounds first, as people write them; installers reorder.
        terms = sorted((term.strip() for term in parts[2].split(",")), reverse=True)
        ranges[parts[1]] = ",".join(terms)
    return ranges


def satisfies(version: str, declared: str) -> bool:
    """Whether the release numbers of a version lie in a range such as ``>=2.0,<3``.

    Suffixes are ignored, so that ``2.13.0+cpu`` counts as 2.13.0.

    Raises:
        ValueError: the range has something else than comparisons of plain release numbers.
    """
    return all(_compares(version, term.strip()) for term in declared.split(",") if term.strip())


def _compares(version: str, term: str) -> bool:
    parts = re.fullmatch(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+)*)", term)
    release = re.match(r"\d+(?:\.\d+)*", version)
    if parts is None or release is None:
        raise ValueError(f"cannot compare version {version!r} with {term!r}")
    numbers = (map(int, text.split(".")) for text in (release[0], parts[2]))
    ours, bound = zip(*zip_longest(*numbers, fillvalue=0), strict=True)
    return bool(_COMPARISONS[parts[1]](ours, bound))


def _python(device: torch.device) -> Finding:
    declared = metadata.metadata(_PACKAGE)["Requires-Python"]
    version = platform.python_version()
    return Finding(satisfies(version, declared), f"{version} (declared: {declared})")


def _library(device: torch.device, *, name: str) -> Finding:
    declared, version = declared_ranges()[name], metadata.version(name)
    return Finding(satisfies(version, declared), f"{version} (declared: {declared})")


def _other_libraries(device: torch.device) -> Finding:
    found = []
    for name, declared in declared_ranges().items():
        if name not in _NAMED:
            version = metadata.version(name)
            good = satisfies(version, declared)
            excuse = "" if good else f" (declared: {declared})"
            found.append(Finding(good, f"{name} {version}{excuse}"))
    good = all(finding.passed for finding in found)
    return Finding(good, ", ".join(finding.figure for finding in found))


# --- what was compiled, and whether it repeats itself -----------------------------------------


def _tile_extension(device: torch.device) -> Finding:
    """Programs against the same rules as torch operations, which vmap makes of them."""
    ball = manifolds.PoincareBall(0.7)
    norms = torch.linspace(0.0, 0.95, 200)
    x, y = (specimens.random_points(norms / 0.7**0.5, 16, seed) for seed in (1, 2))
    errors = []
    for operation in (ball.dist, ball.mobius_add, ball.expmap, ball.logmap):
        plain, traced = operation(x, y), torch.func.vmap(operation)(x, y)
        errors.append(float((plain - traced).abs().max() / traced.abs().max()))
    state = (
        "compiled and in use on CPUs"
        if programs.available()
        else "not compiled: the ball runs as torch operations, correct but slower"
    )
    return both(
        Finding(True, state), at_most("difference from torch operations", worst(errors), EXACT)
    )


def _determinism(device: torch.device) -> Finding:
    """Train twice from one seed; the global seed is the only source of randomness."""
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        model = specimens.fresh_model(device, n_digits=4)
        specimens.train(model, specimens.batch_of(padic.TernarySpace(4), device), steps=3)
        states.append(model.state_dict())
    first, second = states
    differing = sum(not torch.equal(first[key], second[key]) for key in first)
    return none_of(differing, len(first), "tensors differ after three steps from one seed")


CHECKS: dict[str, CheckFunction] = {
    "python": _python,
    **{name: partial(_library, name=name) for name in _NAMED},
    "other libraries": _other_libraries,
    "compiled tiles": _tile_extension,
    "same seed, same bits": _determinism,
}
