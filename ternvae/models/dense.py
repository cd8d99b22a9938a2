"""Small networks of linear layers in one call, on CPUs.

As torch operations a network of this size is a hundred calls, each of which costs more than its
arithmetic. Here the layers are wired once into straight-line code for the extension ``_dense``,
which takes a tile of rows through all of them while it is in the cache, forward and backward, and
gives the same values and gradients up to the rounding of float32.

The extension is optional (see ``setup.py``), and it knows only the layers that are listed in
:meth:`Wiring.through`. :func:`run` returns None wherever the modules have to be called themselves:
another device or dtype, autocast, active dropout, hooks, function transforms, tracing.
"""

from __future__ import annotations

import functools
import operator
import struct
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _global

from ternvae.first_order import first_order

try:
    from ternvae.models import _dense  # type: ignore[attr-defined]
except ImportError:  # installed without a C compiler
    _dense = None

__all__ = ["OPERATIONS", "Call", "Wiring", "available", "prepare", "run"]

OPERATIONS = (
    "one_hot",
    "load",
    "linear",
    "norm_silu",
    "silu",
    "add",
    "share",
    "store",
    "nll",
    "draw",
)
"""In the order of the enumeration in ``_dense.h``."""

_CODES = {name: code for code, name in enumerate(OPERATIONS)}
_INSTRUCTION = struct.Struct("7if")  # as in _dense.h

#: What a network may have of inputs, outputs and parameters, and of digits.
_MOST, _MOST_DIGITS = 256, 64


class _Step(NamedTuple):
    """One instruction; its place in the list is the register that it makes."""

    operation: str
    source: int
    width_in: int
    width_out: int
    parameter: int = 0
    slot: int = 0
    epsilon: float = 0.0


class Wiring:
    """Writes down how the layers of a module hang together; check-free.

    Registers are numbers; each stands for a matrix with a row for each row of the batch.
    """

    def __init__(self) -> None:
        self.steps: list[_Step] = []
        #: Where each layer was found, and of what type it was.
        self.layers: list[tuple[dict[str, Any], str, nn.Module, type]] = []
        #: Where each parameter is found, and its shape.
        self.learned: list[tuple[dict[str, Any], str, tuple[int, ...]]] = []
        self.n_inputs = 0
        self.outputs: list[int] = []
        self.dropouts: list[nn.Dropout] = []
        self.possible = True

    def one_hot(self, n_digits: int) -> int:
        """The digits of the sequences, 3 n_digits columns."""
        self.possible &= n_digits <= _MOST_DIGITS
        return self._add(_Step("one_hot", -1, 0, 3 * n_digits))

    def load(self, width: int) -> int:
        """The next of the matrices that :func:`run` is given."""
        self.n_inputs += 1
        return self._add(_Step("load", -1, 0, width, slot=self.n_inputs - 1))

    def through(self, register: int, owner: nn.Module, name: str) -> int:
        """What ``owner.name`` makes of a register: a linear layer or a sequence of layers.

        Of layers these are known: ``Linear`` with a bias, ``SiLU``, ``LayerNorm`` over the last
        dimension with a bias in front of a ``SiLU``, ``Dropout`` that drops nothing, and
        ``Unflatten``, which moves nothing.
        """
        layer = owner._modules[name]
        self.layers.append((owner._modules, name, layer, type(layer)))  # type: ignore[arg-type]
        if type(layer) is nn.Linear:
            return self._linear(register, layer)
        if type(layer) is nn.Sequential or isinstance(layer, nn.Sequential):
            return self._sequence(register, layer)
        self.possible = False
        return register

    def store(self, register: int) -> None:
        """Make a register the next output, (batch, width)."""
        self._output("store", register, self.steps[register].width_out)

    def nll(self, register: int) -> None:
        """Make -log p of the sequences under logits, (batch, 3 n_digits), the next output."""
        self._output("nll", register, 0)

    def add(self, first: int, second: int) -> int:
        """The sum of two registers of one width."""
        width = self.steps[first].width_out
        self.possible &= self.steps[second].width_out == width
        return self._add(_Step("add", first, width, width, slot=second))

    def share(self, register: int) -> int:
        """:attr:`Call.whole` times the sigmoid of a register."""
        width = self.steps[register].width_out
        return self._add(_Step("share", register, width, width))

    def draw(self, register: int) -> None:
        """Make a normal sample the next output, and its weight, (batch,), the one after it.

        The register holds logarithms of variances l, cut off at ``LOG_VARIANCE_RANGE``; the next
        of the matrices that :func:`prepare` is given is standard normal noise e of its shape.  The
        sample is e exp(l / 2), its weight -|e|^2 / 2 - sum(l) / 2: the logarithm of its density,
        but for a constant.
        """
        columns = self.steps[register].width_out
        self.n_inputs += 1
        self._add(_Step("draw", register, columns, 0, self.n_inputs - 1, slot=len(self.outputs)))
        self.outputs += [columns, 0]

    def _output(self, operation: str, register: int, width: int) -> None:
        columns = self.steps[register].width_out
        self._add(_Step(operation, register, columns, 0, slot=len(self.outputs)))
        self.outputs.append(width)

    def _add(self, step: _Step) -> int:
        self.steps.append(step)
        return len(self.steps) - 1

    def _learn(self, layer: nn.Module, weight: tuple[int, ...]) -> int:
        for name, shape in (("weight", weight), ("bias", weight[:1])):
            self.possible &= layer._parameters.get(name) is not None
            self.learned.append((layer._parameters, name, shape))
        return len(self.learned) - 2

    def _linear(self, register: int, layer: nn.Linear) -> int:
        self.possible &= self.steps[register].width_out == layer.in_features
        place = self._learn(layer, (layer.out_features, layer.in_features))
        return self._add(
            _Step("linear", register, layer.in_features, layer.out_features, parameter=place)
        )

    def _sequence(self, register: int, sequence: nn.Sequential) -> int:
        names = list(sequence._modules)
        k = 0
        while k < len(names):
            layer: Any = sequence._modules[names[k]]
            following = sequence._modules[names[k + 1]] if k + 1 < len(names) else None
            self.layers.append((sequence._modules, names[k], layer, type(layer)))
            width = self.steps[register].width_out
            if type(layer) is nn.Linear:
                register = self._linear(register, layer)
            elif type(layer) is nn.SiLU:
                register = self._add(_Step("silu", register, width, width))
            elif type(layer) is nn.LayerNorm and type(following) is nn.SiLU:
                self.possible &= layer.normalized_shape == (width,)
                place = self._learn(layer, (width,))
                register = self._add(
                    _Step("norm_silu", register, width, width, place, epsilon=layer.eps)
                )
                k += 1
                self.layers.append((sequence._modules, names[k], following, nn.SiLU))
            elif type(layer) is nn.Dropout:
                self.dropouts.append(layer)
            elif type(layer) is not nn.Unflatten:
                self.possible = False
            k += 1
        return register


class _Network:
    """Wired layers, ready to run."""

    def __init__(self, wiring: Wiring) -> None:
        self._places = [(modules, name) for modules, name, *_ in wiring.layers]
        self._layers = [layer for _, _, layer, _ in wiring.layers]
        self._kinds = [kind for *_, kind in wiring.layers]
        #: Dictionaries that are empty as long as nobody watches.
        self._hooks: list[dict[int, Any]] = [
            hooks
            for layer in self._layers
            for hooks in (
                layer._forward_hooks,
                layer._forward_pre_hooks,
                layer._backward_hooks,
                layer._backward_pre_hooks,
            )
        ]
        self.learned = wiring.learned
        self.outputs = wiring.outputs
        self.n_inputs = wiring.n_inputs
        of = {s.operation: s for s in wiring.steps}
        sequenced = of.get("one_hot") or of.get("nll")
        #: How many digits sequences have, and how many columns each matrix that is loaded has.
        self._digits = sequenced and max(sequenced.width_in, sequenced.width_out) // 3
        self._widths = [
            s.width_out or s.width_in for s in wiring.steps if s.operation in ("load", "draw")
        ]
        self.dropouts = wiring.dropouts
        room = max(len(wiring.learned), len(wiring.outputs), wiring.n_inputs)
        self.possible = wiring.possible and room <= _MOST
        code, self.saved_columns = _encode(wiring.steps)
        self.handle = _prepared(code) if self.possible else None

    def is_current(self) -> bool:
        """Whether the layers are still those that were wired, and nobody watches them."""
        there = [modules.get(name) for modules, name in self._places]
        return (
            all(map(operator.is_, there, self._layers))
            and list(map(type, self._layers)) == self._kinds
            and not any(self._hooks)
        )

    def parameters(self) -> list[Tensor] | None:
        """Weights and biases in the order of the code; None if the extension cannot read one."""
        found = []
        for place, name, shape in self.learned:
            each = place[name]
            if not (
                each.dtype is torch.float32
                and each.is_cpu
                and each.shape == shape
                and each.is_contiguous()
            ):
                return None
            found.append(each)
        return found

    def fits(self, sequences: Tensor | None, inputs: Sequence[Tensor]) -> bool:
        """Whether matrices have the shapes that are read: modules say what is wrong with others."""
        given = [tuple(each.shape) for each in ([] if sequences is None else [sequences])]
        given += [tuple(each.shape) for each in inputs]
        widths = [*([] if self._digits is None else [self._digits]), *self._widths]
        return given == [(*given[0][:1], width) for width in widths]


def _encode(steps: list[_Step]) -> tuple[bytes, int]:
    """The code, and how many columns of intermediate results the backward pass needs."""
    needed = {s.source for s in steps if s.operation != "store"}
    needed |= {s.slot for s in steps if s.operation == "add"}
    code, columns = b"", 0
    for k, s in enumerate(steps):
        kept = s.operation == "linear" and k in needed
        code += _INSTRUCTION.pack(
            _CODES[s.operation],
            s.source,
            s.width_in,
            s.width_out,
            s.parameter,
            s.slot,
            columns if kept else -1,
            s.epsilon,
        )
        columns += _padded(s.width_out) if kept else 0
    return code, columns


def _padded(n: int) -> int:
    """Rows and columns are padded to whole vectors of 16 floats."""
    return -(-n // 16) * 16


@functools.cache
def _prepared(code: bytes) -> Any:
    return _dense.prepare(code)


_networks: weakref.WeakKeyDictionary[nn.Module, dict[Any, _Network]] = weakref.WeakKeyDictionary()

Wire: TypeAlias = Callable[[Any, Wiring], Any]
"""Given a module and an empty wiring, wires the module's layers."""


def available() -> bool:
    """Whether the extension was compiled when this package was installed."""
    return _dense is not None


class Call:
    """A network, and the tensors that it is about to read; check-free.

    Attributes:
        tensors: the matrices that it loads, then its parameters.
        whole: what :meth:`Wiring.share` takes a share of.
    """

    def __init__(
        self,
        network: _Network,
        sequences: Tensor | None,
        inputs: list[Tensor],
        parameters: list[Tensor],
        whole: float,
    ) -> None:
        self._network, self._sequences = network, sequences
        self._rows = len(inputs[0] if sequences is None else sequences)
        self._kept: Tensor | None = None
        self.tensors = inputs + parameters
        self.whole = whole

    def forward(self, *, keep: bool) -> tuple[Tensor, ...]:
        """The outputs; ``keep`` what :meth:`backward` needs."""
        network, n = self._network, self._rows
        if keep:
            self._kept = torch.empty(_padded(n) * network.saved_columns)
        outputs = tuple([torch.empty((n, w) if w else (n,)) for w in network.outputs])
        _dense.forward(*self._common(), _addresses(outputs))
        return outputs

    def backward(
        self, grads: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """The gradients of those of :attr:`tensors` that are wanted.

        Args:
            grads: of each output, or None for zero.
            wanted: for each of the tensors; a layer learns as a whole.
        """
        first = self._network.n_inputs
        learns = list(wanted)
        for k in range(first, len(learns), 2):
            learns[k] = learns[k + 1] = learns[k] or learns[k + 1]
        found = [
            torch.empty_like(t) if w else None for t, w in zip(self.tensors, learns, strict=True)
        ]
        self._backward(grads, found, adds=False)
        return found

    def accumulate(
        self, grads: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """Add the gradients of the parameters that learn to the ``grad`` that each has.

        Args:
            grads: of each output, or None for zero.
            wanted: for each of the matrices that are loaded.

        Returns:
            The gradients of those matrices that are wanted.
        """
        first = self._network.n_inputs
        own = [t.grad if t.requires_grad else None for t in self.tensors[first:]]
        inputs = [
            torch.empty_like(t) if w else None
            for t, w in zip(self.tensors[:first], wanted, strict=True)
        ]
        self._backward(grads, [*inputs, *own], adds=True)
        return inputs

    def can_accumulate(self) -> bool:
        """Whether :meth:`accumulate` does to the parameters what autograd would."""
        for t in self.tensors[self._network.n_inputs :]:
            grad = t.grad
            if t.requires_grad and (
                grad is None
                or t._backward_hooks
                or t._post_accumulate_grad_hooks
                or not (_is_plain(grad) and grad.is_contiguous())
            ):
                return False
        return True

    def _backward(
        self, grads: Sequence[Tensor | None], found: Sequence[Tensor | None], *, adds: bool
    ) -> None:
        first = self._network.n_inputs
        given = [None if g is None else g.contiguous() for g in grads]
        _dense.backward(
            *self._common(),
            _addresses(given),
            _addresses(found[:first]),
            _addresses(found[first:]),
            adds,
        )

    def _common(self) -> tuple[Any, ...]:
        first = self._network.n_inputs
        return (
            self._network.handle,
            self._rows,
            torch.get_num_threads(),
            0 if self._sequences is None else self._sequences.data_ptr(),
            0 if self._kept is None else self._kept.data_ptr(),
            self.whole,
            _addresses(self.tensors[:first]),
            _addresses(self.tensors[first:]),
        )


def prepare(
    owner: nn.Module,
    wire: Wire,
    sequences: Tensor | None,
    *inputs: Tensor,
    whole: float = 1.0,
) -> Call | None:
    """Get ready to run the layers of a module as they are wired; check-free in its values.

    Args:
        owner: the module.
        wire: how its layers hang together; a function that does the same whenever it is called.
        sequences: (batch, n_digits) integers in {-1, 0, 1} if the wiring asks for them.
        inputs: (batch, width) matrices, one for each that the wiring loads or draws with.
        whole: see :meth:`Wiring.share`.

    Returns:
        What runs them, in float32, or None where the modules have to be called.
    """
    if _dense is None or _somebody_watches() or not all(map(_is_plain, inputs)):
        return None
    if sequences is not None:
        if not _is_plain(sequences, integer=True):
            return None
        sequences = sequences.long().contiguous()
    network = _network_of(owner, wire)
    if network is None or not network.possible or not network.fits(sequences, inputs):
        return None
    if any(layer.training and layer.p > 0 for layer in network.dropouts):
        return None
    parameters = network.parameters()
    if parameters is None:
        return None
    return Call(network, sequences, [x.contiguous() for x in inputs], parameters, whole)


def run(
    owner: nn.Module,
    wire: Wire,
    sequences: Tensor | None,
    *inputs: Tensor,
    whole: float = 1.0,
) -> tuple[Tensor, ...] | None:
    """Run the layers of a module as they are wired, as a node of the graph; check-free in values.

    See :func:`prepare`.

    Returns:
        The outputs in their order, float32, or None where the modules have to be called.
    """
    call = prepare(owner, wire, sequences, *inputs, whole=whole)
    if call is None:
        return None
    if torch.is_grad_enabled():
        return _Run.apply(call, *call.tensors)  # type: ignore[no-any-return, no-untyped-call]
    return call.forward(keep=False)


def _network_of(owner: nn.Module, wire: Wire) -> _Network | None:
    made = _networks.setdefault(owner, {})
    network = made.get(wire)
    if network is None or not network.is_current():
        wiring = Wiring()
        wire(owner, wiring)
        network = made[wire] = _Network(wiring)
        if not network.is_current():
            return None  # somebody watches, for now
    return network


def _is_plain(t: Tensor, integer: bool = False) -> bool:
    """Whether the memory of a tensor can be read as it is."""
    kind = not t.dtype.is_floating_point if integer else t.dtype is torch.float32
    return kind and t.is_cpu and type(t).__torch_dispatch__ is Tensor.__torch_dispatch__


def _somebody_watches() -> bool:
    """Whether layers or operations must be visible: tracing, transforms, autocast, global hooks."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch.is_autocast_enabled("cpu")
        or _global._has_any_global_hook()  # type: ignore[no-untyped-call]
    )


class _Run(torch.autograd.Function):
    """A network as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)  # and so that changes to them are noticed
        return call.forward(keep=True)

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        _ = ctx.saved_tensors
        return None, *ctx.call.backward(grads, ctx.needs_input_grad[1:])


def _addresses(tensors: Sequence[Tensor | None]) -> tuple[int, ...]:
    return tuple([0 if t is None else t.data_ptr() for t in tensors])
