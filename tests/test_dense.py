"""Layers in one call against the same layers called one by one, and against float64."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ternvae.models import BRANCHES, TernaryVAE, dense

needs_extension = pytest.mark.skipif(
    not dense.available(), reason="the extension was not compiled: no C compiler"
)

#: n_digits, hidden_dim, latent_dim, projection_layers: defaults, and widths around multiples of 16.
SHAPES = [(9, 64, 16, 2), (5, 33, 7, 1), (1, 15, 2, 3), (12, 100, 17, 2), (20, 128, 16, 2)]
BATCHES = [1, 15, 16, 64, 65, 255, 256, 257, 700]


def model_of(shape: tuple[int, int, int, int], **keywords: Any) -> TernaryVAE:
    """A model whose scales, shifts and biases are not those of the start."""
    torch.manual_seed(0)
    n_digits, hidden, latent, layers = shape
    model = TernaryVAE(n_digits, latent, hidden, layers, **keywords)
    for parameter in model.parameters():
        if parameter.ndim == 1 and parameter.requires_grad:
            nn.init.normal_(parameter, std=0.5)
    return model


def batch_of(model: TernaryVAE, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    n = model.space.n_digits
    generator = torch.Generator().manual_seed(rows)
    indices = torch.randint(3**n, (rows,), generator=generator)
    noise = torch.randn(rows, model.config["latent_dim"], generator=generator)
    return model.space.sequences(indices), model.space.valuation(indices), noise


def everything(model: TernaryVAE, rows: int, branch: str) -> dict[str, Tensor]:
    """All outputs of a branch, and all gradients of a sum that every one of them enters."""
    sequences, levels, noise = batch_of(model, rows)
    model.zero_grad()
    outputs = model(sequences, levels, branch, noise.to(model.point_dtype))
    generator = torch.Generator().manual_seed(7)
    weights = [torch.randn(each.shape, generator=generator) for each in outputs]
    sum((w * each).sum() for w, each in zip(weights, outputs, strict=True)).backward()
    found = {name: each.detach() for name, each in outputs._asdict().items()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f"gradient of {name}"] = parameter.grad.clone()
    return found


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Tensor]]:
    """The same with the modules called one by one."""

    def call(*arguments: Any) -> dict[str, Tensor]:
        with monkeypatch.context() as patch:
            patch.setattr(dense, "_dense", None)
            return everything(*arguments)

    return call


def assert_exact(
    shape: tuple[int, int, int, int], rows: int, one_by_one: Callable[..., dict[str, Tensor]]
) -> None:
    model = model_of(shape)
    for branch in BRANCHES:
        exact = one_by_one(copy.deepcopy(model).double(), rows, branch)
        modules = one_by_one(model, rows, branch)
        found = everything(model, rows, branch)
        assert found.keys() == modules.keys() == exact.keys()
        for name, value in found.items():
            assert value.shape == modules[name].shape, name
            scale = exact[name].abs().max() + 1e-3
            error, theirs = (
                ((each - exact[name]).abs().max() / scale).item() for each in (value, modules[name])
            )
            # Both round to float32 in orders of their own.
            assert error <= 8 * theirs + 1e-5, (branch, name, error, theirs)


@pytest.fixture(params=[0, 3, 4], ids=["any", "x86-64-v3", "x86-64-v4"])
def generation(request: pytest.FixtureRequest) -> Iterator[int]:
    """One version of the inner loops after the other, and then the best of them again."""
    if not (dense.available() and dense._dense.use(request.param)):
        pytest.skip("this processor, or this compiler, has no such vector units")
    yield request.param
    assert any(dense._dense.use(number) for number in (4, 3, 0))


@pytest.mark.parametrize("rows", [1, 17, 257])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_version_of_the_inner_loops_is_as_exact(
    generation: int,
    shape: tuple[int, int, int, int],
    rows: int,
    one_by_one: Callable[..., dict[str, Tensor]],
) -> None:
    assert_exact(shape, rows, one_by_one)


@needs_extension
@pytest.mark.parametrize("rows", BATCHES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_call_is_as_exact_as_the_modules(
    shape: tuple[int, int, int, int], rows: int, one_by_one: Callable[..., dict[str, Tensor]]
) -> None:
    assert_exact(shape, rows, one_by_one)


@needs_extension
@pytest.mark.parametrize("rows", [65, 512, 1500])
def test_neither_threads_nor_repetition_change_a_bit(rows: int) -> None:
    model = model_of(SHAPES[0])
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5, 2):
            torch.set_num_threads(threads)
            found.append(everything(model, rows, "B"))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(found[0][name], other[name]) for name in other)


@needs_extension
def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model = model_of(SHAPES[0]).eval()
    encoder = model.encoder("B")
    sequences, *_ = batch_of(model, 300)
    with torch.no_grad():
        together = encoder(sequences)
        for rows in (slice(0, 1), slice(63, 65), slice(250, 300)):
            assert torch.equal(encoder(sequences[rows]).direction, together.direction[rows])


@needs_extension
def test_only_what_learns_gets_a_gradient() -> None:
    model = model_of(SHAPES[0])
    whole = everything(model, 100, "B")
    frozen = [*model.decoder.parameters(), *model.encoders["B"].features.parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
        parameter.grad = None
    found = everything(model, 100, "B")
    names = {name for name, each in model.named_parameters() if each.requires_grad}
    assert all(parameter.grad is None for parameter in frozen)
    for name in (name for name in found if name.startswith("gradient")):
        assert name.removeprefix("gradient of ") in names
        assert torch.equal(found[name], whole[name]), name


@needs_extension
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "where",
    ["encoders.B.features.0.weight", "encoders.B.features.1.bias", "charts.B.0.weight"],
)
def test_what_is_not_finite_stays_so(where: str, poison: float) -> None:
    model = model_of(SHAPES[0])
    with torch.no_grad():
        model.get_parameter(where).view(-1)[5] = poison
    found = everything(model, 40, "B")
    assert not found["nll"].isfinite().all()


@needs_extension
def test_extreme_logits_are_exact() -> None:
    """The likelihood of a digit as far as float32 reaches, against float64."""
    model = model_of((4, 16, 4, 1))
    with torch.no_grad():
        last = model.decoder[5]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, 500, -500, 1e30, 0, 0, -1e-3, 0, 1e-3, -80, 0, 80]))
    sequences = model.space.sequences()
    _, levels, _ = batch_of(model, len(sequences))
    out = model(sequences, levels, "A", torch.zeros(len(sequences), 4))
    logits = last.bias.detach().double().view(4, 3)
    wanted = -logits.log_softmax(-1)[torch.arange(4), sequences + 1].sum(-1)
    torch.testing.assert_close(out.nll.double(), wanted, rtol=1e-6, atol=1e-6)


def watched_by(model: TernaryVAE, how: str) -> Any:
    """Something because of which the modules have to be called themselves."""
    layer = model.encoders["B"].features[0]
    if how == "forward hook":
        return layer.register_forward_hook(lambda *_: None)
    if how == "global hook":
        return nn.modules.module.register_module_forward_hook(lambda *_: None)
    if how == "parametrization":
        nn.utils.parametrizations.weight_norm(layer)
    if how == "another layer":
        model.encoders["B"].features[2] = nn.Tanh()
    if how == "no bias":
        model.charts["B"] = nn.Linear(16, 64, bias=False)
    if how == "float64":
        model.double()
    if how == "dropout":
        model.encoders["B"].features[3].p = 0.5
    return None


@needs_extension
@pytest.mark.parametrize(
    "how",
    [
        *("forward hook", "global hook", "parametrization", "another layer"),
        *("no bias", "float64", "dropout"),
    ],
)
def test_modules_that_somebody_changed_or_watches_are_called(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(SHAPES[0])
    sequences, levels, noise = batch_of(model, 50)
    model(sequences, levels, "B", noise)  # wired before anything changes
    calls: list[object] = []
    genuine = nn.Linear.forward

    def forward(self: nn.Linear, x: Tensor) -> Tensor:
        calls.append(self)
        return genuine(self, x)

    monkeypatch.setattr(nn.Linear, "forward", forward)
    handle = watched_by(model, how)
    try:
        model(sequences, levels, "B", noise.to(model.point_dtype))
    finally:
        if handle is not None:
            handle.remove()
    assert calls
    if how in ("forward hook", "global hook"):
        calls.clear()
        model(sequences, levels, "B", noise)
        assert not calls, "wired again once nobody watches"


@needs_extension
def test_what_does_not_fit_is_refused_by_the_modules_and_not_read() -> None:
    """Behind the end of a matrix is somebody else's memory."""
    model = model_of(SHAPES[0])
    sequences, levels, noise = batch_of(model, 20)
    for narrow in (sequences[:, :3], sequences.flatten(), sequences[0, 0]):
        with pytest.raises((RuntimeError, IndexError)):
            model.encoder("B")(narrow)
    for rows in (noise[:, :5], noise[:7]):
        assert model.branch_call(sequences, "B", noise, None) is not None
        with pytest.raises(ValueError, match=r"noise must be of shape \(20, 16\)"):
            model(sequences, levels, "B", rows)
    for name in ("charts.B.0.weight", "decoder.0.bias", "encoders.B.log_variance.bias"):
        changed = copy.deepcopy(model)
        changed(sequences, levels, "B", noise)  # wired
        owner, _, last = name.rpartition(".")
        setattr(changed.get_submodule(owner), last, nn.Parameter(torch.ones(2, 2)))
        with pytest.raises(RuntimeError):
            changed(sequences, levels, "B", noise)


@needs_extension
def test_no_rows_have_no_gradient() -> None:
    """Of several processes one may have none of the last batch."""
    model = model_of(SHAPES[0])
    sequences, levels, noise = (each[:0] for each in batch_of(model, 20))
    for branch in BRANCHES:
        model.zero_grad()
        outputs = model(sequences, levels, branch, noise)
        assert [len(each) for each in outputs] == [0] * len(outputs)
        sum(each.sum() for each in outputs).backward()
        found = [p.grad for p in model.parameters() if p.grad is not None]
        assert len(found) > 20 and not any(bool(g.any()) for g in found)
        points = model.encoder(branch).centres(sequences)
        points.sum().backward()
        assert points.shape == (0, 16)


@needs_extension
def test_second_derivatives_are_refused_and_not_wrong() -> None:
    model = model_of(SHAPES[0])
    sequences, levels, noise = batch_of(model, 20)
    weight = model.charts["B"][0].weight
    nll = model(sequences, levels, "B", noise).nll.sum()
    with pytest.raises(RuntimeError, match=r"a first derivative only.*torch\.func"):
        torch.autograd.grad(nll, weight, create_graph=True)
    posterior = model.encoder("B")(sequences)
    with pytest.raises(RuntimeError, match="a first derivative only"):
        torch.autograd.grad(
            posterior.share.sum(), model.encoders["B"].features[0].bias, create_graph=True
        )

    def penalty(given: Tensor) -> Tensor:
        """What torch.func differentiates twice: there the layers are called themselves."""

        def likelihood(w: Tensor) -> Tensor:
            weights = {"charts.B.0.weight": w}
            arguments = (sequences, levels, "B", noise)
            return torch.func.functional_call(model, weights, arguments).nll.sum()

        return torch.func.grad(likelihood)(given).square().sum()

    slope = torch.func.grad(penalty)(weight.detach())
    assert bool(slope.isfinite().all()) and bool(slope.any())


@needs_extension
def test_a_dropped_feature_is_dropped_only_while_training() -> None:
    model = model_of(SHAPES[0], dropout=0.5)
    sequences, levels, noise = batch_of(model, 50)
    first, second = (model(sequences, levels, "B", noise).nll for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    first, second = (model(sequences, levels, "B", noise).nll for _ in range(2))
    assert torch.equal(first, second)


def test_without_the_extension_the_model_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "_dense", None)
    assert not dense.available()
    model = model_of(SHAPES[0])
    points = model.embed([0, 1, 2])
    assert model.decode(points).shape == (3, 9)
