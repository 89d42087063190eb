from __future__ import annotations

import math

import torch

from worldflux.blocks import Standardiser, ema_, one_hot, percentiles, symexp, symlog


def test_symlog_is_the_logarithm_on_either_side_of_zero():
    x = torch.tensor([-(math.e - 1), 0.0, math.e**2 - 1])
    torch.testing.assert_close(symlog(x), torch.tensor([-1.0, 0.0, 2.0]))


def test_symexp_undoes_symlog():
    x = torch.linspace(-1000, 1000, 21)
    torch.testing.assert_close(symexp(symlog(x)), x)


def test_one_hot_is_float_and_has_the_classes_last():
    assert torch.equal(one_hot(torch.tensor([[2], [0]]), 3), torch.tensor([[[0.0, 0, 1]], [[1, 0, 0]]]))


def test_percentiles_interpolate_as_torch_does():
    values = torch.randn(13, 7, generator=torch.Generator().manual_seed(0))
    wanted = [torch.quantile(values.flatten(), share) for share in (0.0, 0.05, 0.95, 1.0)]
    torch.testing.assert_close(list(percentiles(values, 0, 5, 95, 100)), wanted)


def test_percentiles_take_a_single_value_and_give_no_gradient():
    (found,) = percentiles(torch.tensor(3.0, requires_grad=True), 5)
    assert float(found) == 3.0 and not found.requires_grad


def test_a_moving_average_goes_its_share_of_the_way_without_gradients():
    target, source = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    ema_([target], iter([source]), 0.25)
    assert torch.equal(target, torch.tensor([0.25, -0.5])) and target.grad_fn is None


def test_a_standardiser_has_the_moments_of_all_it_saw():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(6, 50, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.0]) + 2
    part = Standardiser(3)
    for batch in rows:
        part.observe(batch, torch.ones(50))
    seen = rows.flatten(0, 1)
    torch.testing.assert_close(part.mean, seen.mean(0))
    torch.testing.assert_close(part.variance, seen.var(0, correction=0))
    torch.testing.assert_close(part(seen)[:, 2], torch.zeros(300), rtol=0.0, atol=1e-6)  # what never varied is shifted


def test_a_standardiser_ignores_rows_that_weigh_nothing():
    part = Standardiser(1)
    part.observe(torch.tensor([[1.0], [99.0]]), torch.tensor([1.0, 0.0]))
    part.observe(torch.tensor([[99.0]]), torch.zeros(1))
    assert float(part.mean) == 1.0 and int(part.batches) == 1
