"""Time the ball's operations against raw geoopt and HypLL, with the errors in the same row.

What is timed is a forward and a backward pass of each operation, for every batch, dtype and mode,
the implementations in turns in one process.  A step of the optimizer is timed against fused AdamW.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from environment import add_output_option, environment, integers, write_results
from mobius_cases import OPERATIONS, Operation, sample_inputs, timing_inputs, truth
from mobius_measure import count, time_in_turns, time_optimizers, worst_error
from mobius_report import check_claims, report, summarise
from torch import Tensor

from ternvae.manifolds import PoincareBall, programs
from ternvae.manifolds._geoopt import geoopt

try:
    from hypll.manifolds.poincare_ball.math import diffgeom as hypll
except ImportError:  # it is an extra
    hypll = None

__all__ = ["main"]

DTYPES = {"float32": torch.float32, "float64": torch.float64}
MODES = ("eager", "compiled")


class Comparison:
    """Measures every case on one device.

    Args:
        device: where.
        seconds: to spend on timing one implementation of one case.
    """

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device = device
        self.seconds = seconds
        self.ours = PoincareBall(c=1.0).to(device)
        self.geoopt = geoopt.PoincareBall(c=1.0).to(device)
        self.hypll_c = torch.tensor(1.0, device=device)

    def rows(
        self,
        names: Sequence[str],
        batches: Sequence[int],
        dtypes: Sequence[str],
        modes: Sequence[str],
    ) -> Iterator[dict[str, Any]]:
        """One record for every case; batch by batch, dtype by dtype, mode by mode."""
        samples = {dtype: sample_inputs(DTYPES[dtype], self.device) for dtype in dtypes}
        wanted = {(n, d): truth(OPERATIONS[n], samples[d]) for n in names for d in dtypes}
        for batch in batches:
            for dtype in dtypes:
                given = timing_inputs(batch, DTYPES[dtype], self.device)
                for mode in modes:
                    for name in names:
                        _progress(f"{mode}, {dtype}, batch {batch}: {name}")
                        case = {"operation": name, "batch": batch, "dtype": dtype, "mode": mode}
                        exact = samples[dtype], wanted[name, dtype]
                        yield {**case, **self._measure(OPERATIONS[name], given, exact, mode)}

    def _measure(
        self,
        operation: Operation,
        given: dict[str, Tensor],
        exact: tuple[dict[str, Tensor], list[Any]],
        mode: str,
    ) -> dict[str, Any]:
        functions = self._functions(operation, mode)
        inputs, wanted = operation.arguments(given), operation.wanted(given)
        weights = torch.randn_like(functions["geoopt"](*inputs))
        calls = {
            name: lambda f=f: torch.autograd.grad(f(*inputs), wanted, weights)
            for name, f in functions.items()
        }
        seconds, fastest = time_in_turns(calls, self.seconds, self.device)
        batch = len(given["x"])
        errors = {n: worst_error(f, operation, *exact, batch) for n, f in functions.items()}
        counts = {
            name: count(
                calls[name],
                self.ours if name == "ours" else None,
                self.device,
                eager=name != "ours" or mode == "eager",
            )
            for name in ("ours", "geoopt")
        }
        return {
            "seconds": seconds,
            "ratio": {n: s / seconds["ours"] for n, s in seconds.items() if n != "ours"},
            "fastest_seconds": fastest,
            # JSON has no infinity: None is an error that is not finite.
            "error": {n: e if math.isfinite(e) else None for n, e in errors.items()},
            "calls": {name: found["calls"] for name, found in counts.items()},
            "host_reads": {
                **{name: found["host_reads"] for name, found in counts.items()},
                "ours_of_the_host": counts["ours"]["of_the_host"],
            },
        }

    def _functions(self, operation: Operation, mode: str) -> dict[str, Callable[..., Tensor]]:
        """The implementations of an operation as functions of its inputs."""
        ours, theirs, c = self.ours, self.geoopt, self.hypll_c
        functions: dict[str, Callable[..., Tensor]] = {
            "ours": lambda *inputs: operation.ball(ours, *inputs),
            "geoopt": lambda *inputs: operation.ball(theirs, *inputs),
        }
        if mode == "compiled":
            torch._dynamo.reset()  # nothing that one case compiled may serve another
            functions["ours"] = torch.compile(functions["ours"], fullgraph=True, dynamic=False)
        if hypll is not None and operation.hypll is not None:
            call = operation.hypll
            functions["hypll"] = lambda *inputs: call(hypll, c, *inputs)
        return functions


def some_of(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """A type for argparse: names of ``choices``, separated by commas, each at most once."""

    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        unknown = [name for name in names if name not in choices]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"expected some of {', '.join(choices)}, got {unknown[0]!r}"
            )
        if len(set(names)) < len(names):
            raise argparse.ArgumentTypeError(f"a name comes twice in {text!r}")
        return names

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--batches",
        type=integers,
        default="512,19683,262144",
        help="numbers of points; default 512,19683,262144",
    )
    for option, choices in (
        ("--dtypes", tuple(DTYPES)),
        ("--modes", MODES),
        ("--operations", tuple(OPERATIONS)),
    ):
        parser.add_argument(
            option, type=some_of(choices), default=list(choices), help=f"of {','.join(choices)}"
        )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    parser.add_argument(
        "--threads", type=int, default=2, help="torch's threads inside an operation; default 2"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="per implementation and case; default 0.3"
    )
    add_output_option(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 if every claim that could be checked holds, 1 if not."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if 0 in given.batches:
        parser.error("--batches must be at least 1, got 0")
    if given.threads < 1:
        parser.error(f"--threads must be at least 1, got {given.threads}")
    if not (math.isfinite(given.seconds) and given.seconds > 0.0):
        parser.error(f"--seconds must be positive, got {given.seconds}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no such device")
    where = environment(arguments)
    device = torch.device(given.device)
    before = torch.get_num_threads()
    torch.set_num_threads(given.threads)
    try:
        comparison = Comparison(device, given.seconds)
        rows = list(comparison.rows(given.operations, given.batches, given.dtypes, given.modes))
        optimizer = time_optimizers(given.seconds, device)
    finally:
        torch.set_num_threads(before)
    contents = {
        "environment": where,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": given.threads,
        "seconds": given.seconds,
        "extension": programs.available(),
        "hypll": hypll is not None,
        "claims": check_claims(rows, optimizer, OPERATIONS),
        "summary": summarise(rows),
        "optimizer": optimizer,
        "rows": rows,
    }
    text = report(contents)
    print(text)
    for file in write_results(given.out, "bench_mobius", contents, text):
        _progress(f"Written: {file}")
    return 0 if all(claim["passed"] for claim in contents["claims"]) else 1


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
