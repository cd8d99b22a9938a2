"""The ball inside a model that several processes train together."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from ternvae.manifolds import ManifoldParameter, PoincareBall
from tests.manifolds import oracle

C = 0.7
WORLD = 2

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch has no gloo"
)


class Model(nn.Module):
    """Distances between points that are learned and points that are given."""

    def __init__(self, learnable: bool) -> None:
        super().__init__()
        self.ball = PoincareBall(C, max_radius=0.9, learnable=learnable)
        start = oracle.points(0.5, 1, 3, C, seed=1)
        self.points = ManifoldParameter(start, manifold=self.ball)

    def forward(self, x: Tensor) -> Tensor:
        return self.ball.dist2(self.points, self.ball.expmap0(x)).mean()


def data() -> Tensor:
    return oracle.points(0.8, 4 * WORLD, 3, C, seed=2)


def train(model: nn.Module, x: Tensor, steps: int = 3) -> dict[str, Any]:
    """Gradients of the first step, and the parameters and curvatures after the last."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    found: dict[str, Any] = {}
    for step in range(steps):
        optimizer.zero_grad()
        model(x).backward()
        if step == 0:
            found["gradients"] = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
    found["parameters"] = [p.detach().clone().as_subclass(Tensor) for p in model.parameters()]
    return found


def work(rank: int, rendezvous: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=WORLD)
    try:
        for learnable in (False, True):
            model = Model(learnable)
            wrapped = nn.parallel.DistributedDataParallel(model)
            before = model.ball.c.item()
            mine = data().chunk(WORLD)[rank]
            found = train(wrapped, mine)
            found |= {"before": before, "after": model.ball.c.item()}
            torch.save(found, Path(folder) / f"{learnable}-{rank}.pt")
        dist.barrier()  # so that nobody loses the other side of a connection
    finally:
        dist.destroy_process_group()
    # Threads of gloo outlive the group.  One that lets go of a tensor while Python is being taken
    # down cannot get the interpreter any more and aborts the process, so Python is not taken down.
    os._exit(0)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool, int], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    rendezvous = (folder / "rendezvous").as_uri()
    context = mp.spawn(work, args=(rendezvous, str(folder)), nprocs=WORLD, join=False)
    for _ in range(60):
        if context.join(timeout=1.0):
            break
    else:
        for process in context.processes:
            process.kill()
        pytest.fail("the processes did not finish within a minute")
    return lambda learnable, rank: torch.load(folder / f"{learnable}-{rank}.pt")


@pytest.mark.parametrize("learnable", [False, True])
def test_processes_learn_what_one_process_learns(
    learnable: bool, found: Callable[[bool, int], dict[str, Any]]
) -> None:
    alone = Model(learnable)
    want = train(alone, data())
    ranks = [found(learnable, rank) for rank in range(WORLD)]
    for got in ranks:
        assert got["before"] == C  # exact: no cast, and no rounding by the broadcast
        for key in ("gradients", "parameters"):
            assert len(got[key]) == (2 if learnable else 1)
            for a, b in zip(got[key], want[key], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        assert got["after"] == pytest.approx(alone.ball.c.item(), rel=1e-13)
        if not learnable:
            assert got["after"] == C
    assert ranks[0]["after"] == ranks[1]["after"]
    assert (alone.ball.c.item() != C) == learnable


def test_a_copy_of_the_model_keeps_its_own_ball() -> None:
    """What a wrapper that replicates a model does with it."""
    model = Model(True)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.ball.log_c_ratio.fill_(1.0)
    assert model.ball.c.item() == C
    assert other.points.manifold is other.ball
