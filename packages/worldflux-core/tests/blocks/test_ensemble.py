from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from worldflux.blocks import Ensemble


def filled(ensemble: Ensemble) -> Ensemble:
    generator = torch.Generator().manual_seed(0)
    ensemble.load_state_dict({n: torch.randn(v.shape, generator=generator) for n, v in ensemble.state_dict().items()})
    return ensemble


def one_by_one(ensemble: Ensemble, head: int, x: torch.Tensor, *, normed: bool) -> torch.Tensor:
    """The same network as plain layers."""
    for i, layer in enumerate(ensemble):
        x = F.linear(x, layer.weight[head], layer.bias[head])
        if i < len(ensemble) - 1:
            if normed:
                x = F.layer_norm(x, x.shape[-1:], layer.ln.weight[head], layer.ln.bias[head])
            x = torch.tanh(x)
    return x


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("lead", [(), (6,), (2, 3)])
def test_each_head_is_a_network_of_its_own(normed, lead):
    ensemble, x = filled(Ensemble(3, [4, 5, 5, 2], torch.tanh, normed=normed)), torch.ones(*lead, 4)
    found = ensemble(x)
    assert found.shape == (3, *lead, 2)
    for head in range(3):
        torch.testing.assert_close(found[head], one_by_one(ensemble, head, x, normed=normed))


def test_chosen_heads_come_in_the_order_asked_for():
    ensemble, x = filled(Ensemble(3, [4, 5, 2], torch.tanh, normed=True)), torch.ones(6, 4)
    torch.testing.assert_close(ensemble(x, torch.tensor([2, 0])), ensemble(x)[[2, 0]])


def test_detached_weights_learn_nothing_but_the_inputs_do():
    ensemble, x = filled(Ensemble(2, [4, 5, 1], torch.tanh, normed=True)), torch.ones(3, 4, requires_grad=True)
    ensemble(x, detach=True).sum().backward()
    assert x.grad is not None and all(p.grad is None for p in ensemble.parameters())


def test_what_is_not_kept_of_the_first_layer_reaches_nothing():
    ensemble, x = filled(Ensemble(2, [4, 5, 5, 1], torch.tanh)), torch.ones(3, 4)
    keep = torch.zeros(2, 3, 5)
    torch.testing.assert_close(ensemble(x, keep=keep), ensemble(-x, keep=keep))
    torch.testing.assert_close(ensemble(x, keep=keep + 1), ensemble(x))


def test_a_frozen_ensemble_has_the_same_names_and_no_parameters():
    own, frozen = (filled(Ensemble(2, [4, 5, 1], torch.tanh, normed=True, frozen=frozen)) for frozen in (False, True))
    assert list(own.state_dict()) == list(frozen.state_dict()) == [
        "0.weight", "0.bias", "0.ln.weight", "0.ln.bias", "1.weight", "1.bias",
    ]  # fmt: skip
    assert not list(frozen.parameters()) and len(list(frozen.buffers())) == len(list(own.parameters()))
    assert torch.equal(own(torch.ones(1, 4)), frozen(torch.ones(1, 4)))


def test_a_subclass_may_be_a_module_among_others():
    holder = nn.ModuleDict({"critics": Ensemble(2, [4, 1], torch.tanh)})
    assert list(holder.state_dict()) == ["critics.0.weight", "critics.0.bias"]
