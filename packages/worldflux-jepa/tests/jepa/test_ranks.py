"""Two processes with half of a batch each learn what one with all of it learns."""

from __future__ import annotations

import subprocess
import sys

import torch
import torch.distributed as dist

from worldflux_jepa.jepa.losses import covariance, sigreg, std_hinge
from worldflux_jepa.layers.ranks import from_first

BATCH, LATENT, DIRECTIONS, RANKS = 8, 3, 5, 2


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, directions = (torch.randn(shape, generator=generator) for shape in ((2, BATCH, 4), (LATENT, DIRECTIONS)))
    return x, torch.randn(4, LATENT, generator=generator).requires_grad_(), directions


def gradients(x: torch.Tensor, weight: torch.Tensor, directions: torch.Tensor) -> list[torch.Tensor]:
    latents = 0.5 * x @ weight
    values = sigreg(latents, directions), std_hinge(latents), covariance(latents)
    return [torch.autograd.grad(value, weight, retain_graph=True)[0] for value in values]


def one_of_two(rank: int, place: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{place}/store", RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    x, weight, directions = inputs()
    found = gradients(x.chunk(RANKS, dim=1)[rank], weight, from_first(directions + rank))
    for gradient in found:
        dist.all_reduce(gradient)
    if rank == 0:
        torch.save([gradient / RANKS for gradient in found], f"{place}/found.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_statistics_of_a_batch_are_those_of_all_its_parts(tmp_path):
    workers = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(RANKS)]
    assert [worker.wait(60) for worker in workers] == [0] * RANKS
    for found, whole in zip(torch.load(tmp_path / "found.pt"), gradients(*inputs()), strict=True):
        torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), sys.argv[2])
