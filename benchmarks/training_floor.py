"""The floor under a training step: its matrix products, and nothing else.

Which products a step needs is read off the model while the textbook loop calls its linear layers:
y = x W^T in the forward pass; in the backward pass g^T x where the weights learn, and g W where
anything before the layer learns.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from textbook import TextbookVAE
from torch import Tensor, nn

from ternvae.models import BRANCHES

__all__ = ["Floor", "Product", "products_after_the_freeze", "products_before_the_freeze"]


class Product(NamedTuple):
    """The products of one linear layer in one step.

    Attributes:
        rows: rows of its input.
        inputs: width of its input.
        outputs: width of its output.
        weight_gradient: whether its weights learn.
        input_gradient: whether anything before it learns.
    """

    rows: int
    inputs: int
    outputs: int
    weight_gradient: bool
    input_gradient: bool

    @property
    def flop(self) -> int:
        """Floating-point operations: two for each multiplication that is added up."""
        passes = 1 + self.weight_gradient + self.input_gradient
        return 2 * self.rows * self.inputs * self.outputs * passes


def products_before_the_freeze(vae: TextbookVAE, rows: int) -> list[Product]:
    """What a step of so many rows needs while both branches learn."""
    return _products(vae, rows, BRANCHES)


def products_after_the_freeze(vae: TextbookVAE, rows: int) -> list[Product]:
    """What it needs once encoder A, its chart and the decoder are frozen: branch B's part."""
    frozen = (vae.encoders["A"], vae.charts["A"], vae.decoder)
    learning = [p for module in frozen for p in module.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        return _products(vae, rows, "B")
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _products(vae: TextbookVAE, rows: int, branches: tuple[str, ...] | str) -> list[Product]:
    found: list[Product] = []

    def note(module: nn.Module, given: tuple[Tensor, ...], _: Any) -> None:
        outputs, inputs = module.get_parameter("weight").shape
        learns = module.get_parameter("weight").requires_grad
        passed = given[0].numel() // inputs
        found.append(Product(passed, inputs, outputs, learns, given[0].requires_grad))

    layers = [module for module in vae.modules() if isinstance(module, nn.Linear)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    device = vae.prototypes.device
    sequences = torch.zeros(rows, vae.n_digits, dtype=torch.int64, device=device)
    valuation = torch.zeros(rows, dtype=torch.int64, device=device)
    try:
        # The noise that the forward pass draws must not change what is trained afterwards.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for branch in branches:
                vae(sequences, valuation, branch)
    finally:
        for hook in hooks:
            hook.remove()
    return found


class Floor:
    """Does the products of a step, into memory that is there already.

    Args:
        products: of the step.
        device: where.

    Attributes:
        products: of the step.
        flop: floating-point operations of all of them.
        seconds: of each repetition that was timed.
    """

    def __init__(self, products: list[Product], device: torch.device) -> None:
        self.products = products
        self.flop = sum(product.flop for product in products)
        self.seconds: list[float] = []
        self._device = device
        generator = torch.Generator().manual_seed(0)

        def matrix(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, generator=generator).to(device)

        self._forward, self._backward = [], []
        for rows, inputs, outputs, weight_gradient, input_gradient in products:
            x, weight, g = matrix(rows, inputs), matrix(outputs, inputs), matrix(rows, outputs)
            self._forward.append((x, weight.t(), torch.empty_like(g)))
            if weight_gradient:
                self._backward.append((g.t(), x, torch.empty_like(weight)))
            if input_gradient:
                self._backward.append((g, weight, torch.empty_like(x)))
        self._backward.reverse()

    def step(self) -> None:
        """All products once, forward and then backward."""
        for first, second, result in self._forward:
            torch.mm(first, second, out=result)
        for first, second, result in self._backward:
            torch.mm(first, second, out=result)

    def time(self, seconds: float) -> list[float]:
        """Repeat the step for about so long; returns the seconds of each repetition."""
        found: list[float] = []
        deadline = time.perf_counter() + seconds
        self.step()
        while not found or time.perf_counter() < deadline:
            started = self._now()
            self.step()
            found.append(self._now() - started)
        self.seconds += found
        return found

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
