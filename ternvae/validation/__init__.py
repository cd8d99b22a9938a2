"""The checks behind ``ternvae validate``: is this installation sound, and is the mathematics right?

Every check measures something on the device that training would use and holds it against a bar that
was known beforehand: a definition, a closed form in many digits, or an accuracy that the
documentation promises. What a check compares with is computed apart from what it judges.

:func:`run_checks` yields a :class:`Check` each; :func:`check_line` makes a line of text of it.
"""

from __future__ import annotations

import reprlib
import time
from collections.abc import Collection, Iterator, Mapping

import torch

from ternvae.validation import (
    architecture,
    environment,
    files,
    geometry,
    hardware,
    objective,
    precision,
    scoring,
    ternary,
)
from ternvae.validation.checks import Check, CheckFunction, Finding

__all__ = ["GROUPS", "Check", "check_line", "run_checks"]

#: Group -> name -> check, in the order in which they run: what others rest on comes first.
GROUPS: Mapping[str, Mapping[str, CheckFunction]] = {
    "environment": environment.CHECKS,
    "gpu": hardware.CHECKS,
    "p-adic": ternary.CHECKS,
    "geometry": geometry.CHECKS,
    "architecture": architecture.CHECKS,
    "losses": objective.CHECKS,
    "metrics": scoring.CHECKS,
    "checkpoint": files.CHECKS,
    "precision": precision.CHECKS,
}

_LONGEST_COMPLAINT = 200


def run_checks(
    device: str | torch.device = "cpu", *, groups: Collection[str] | None = None
) -> Iterator[Check]:
    """Run the checks one by one; the next starts when the iterator is asked for it.

    A check that raises is a check that failed, and the others run all the same. torch's random
    state is put back after each.

    Args:
        device: where the checks of tensors run.
        groups: keys of :data:`GROUPS` to confine the run to; None means all.

    Returns:
        An iterator of finished checks, in the order of :data:`GROUPS`.

    Raises:
        TypeError: at the call, if ``device`` is not the name of a device, or ``groups`` are not a
            list of names.
        ValueError: at the call, if ``device`` is not the name of a device, or there is no such
            group.  On a device that is not there the checks fail.
    """
    if not isinstance(device, str | torch.device):
        raise TypeError(f"device must be a name such as 'cpu', got {type(device).__name__}")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        told = reprlib.repr(device)
        raise ValueError(f"device: {told} is not the name of a device; try 'cpu'") from error
    if groups is not None:
        _check_groups(groups)
    return (
        _run(group, name, function, place)
        for group, checks in GROUPS.items()
        if groups is None or group in groups
        for name, function in checks.items()
    )


def check_line(check: Check) -> str:
    """The check as a line: verdict, group, name and figure, in columns.

    Args:
        check: one that :func:`run_checks` gave.

    Returns:
        One line without its end.

    Raises:
        TypeError: it is not a check.
    """
    if not isinstance(check, Check):
        raise TypeError(
            f"check must be a Check, as run_checks gives them, got {type(check).__name__}"
        )
    group_width = max(map(len, GROUPS))
    name_width = max(len(name) for checks in GROUPS.values() for name in checks)
    verdict = "PASS" if check.passed else "FAIL"
    return f"{verdict}  {check.group:<{group_width}}  {check.name:<{name_width}}  {check.figure}"


def _check_groups(groups: object) -> None:
    if isinstance(groups, str) or not isinstance(groups, Collection):
        raise TypeError(
            f"groups must be a list of names, got {type(groups).__name__}: {reprlib.repr(groups)}"
        )
    if not groups:
        raise ValueError(
            f"groups: got {groups!r}; choose from {', '.join(GROUPS)}, or pass None for all"
        )
    for group in groups:
        if not isinstance(group, str) or group not in GROUPS:
            raise ValueError(
                f"groups: no group {reprlib.repr(group)}; choose from {', '.join(GROUPS)}"
            )


def _run(group: str, name: str, function: CheckFunction, device: torch.device) -> Check:
    start = time.perf_counter()
    try:
        finding = _undisturbed(function, device)
    except Exception as error:
        # Whatever is broken may break in any way; that is what the run is to find out.
        finding = Finding(False, _in_one_line(error))
    seconds = time.perf_counter() - start
    return Check(group, name, bool(finding.passed), finding.figure, seconds)


def _undisturbed(function: CheckFunction, device: torch.device) -> Finding:
    """Run a check from a seed of its own, with gradients on, and leave no trace in torch."""
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked), torch.enable_grad():
        torch.manual_seed(0)
        return function(device)


def _in_one_line(error: Exception) -> str:
    lines = str(error).split("\n")
    text = f"{type(error).__name__}: {lines[0].strip()}" if lines[0] else type(error).__name__
    return text if len(text) <= _LONGEST_COMPLAINT else text[: _LONGEST_COMPLAINT - 3] + "..."
