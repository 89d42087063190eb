"""The losses give the numbers, and the gradients, of eb_jepa and stable-worldmodel."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from worldflux_jepa.jepa import losses
from worldflux_jepa.jepa.objective import InverseDynamics

RECORDED = "jepa_losses"
VALUE, GRADIENT = 1e-5, 2e-5


@pytest.fixture
def matches(recording, agrees):
    """Compares a loss with what is recorded by its name, and its gradients with those recorded."""

    def compare(loss: Tensor, name: str, **gradients: Tensor) -> None:
        agrees(loss, recording[name], tolerance=VALUE)
        for recorded, x in gradients.items():
            agrees(torch.autograd.grad(loss, x, retain_graph=True)[0], recording[recorded], tolerance=GRADIENT)

    return compare


def test_the_hinge_of_the_standard_deviation(recording, matches):
    x = recording.learning("eb/x")
    matches(losses.std_hinge(x), "eb/hinge_std", **{"eb/hinge_std_grad": x})
    for name in recording.below("io/eb/hinge_std_margin"):
        if not name.endswith("_grad"):
            at = f"eb/hinge_std_margin{name}"
            matches(losses.std_hinge(x, margin=float(name)), at, **{f"{at}_grad": x})


def test_the_covariance(recording, matches):
    x = recording.learning("eb/x")
    matches(losses.covariance(x), "eb/covariance", **{"eb/covariance_grad": x})


def test_the_similarity_of_consecutive_rows(recording, matches):
    x = recording.learning("eb/seq")
    matches(losses.time_similarity(x.transpose(0, 1)).mean(), "eb/time_similarity", **{"eb/time_similarity_grad": x})


def test_vicreg_of_two_views(recording, matches, agrees):
    first, second = recording.learning("eb/z1"), recording.learning("eb/z2")
    std, cov = _factors(recording, "eb/vicreg")
    terms = losses.vicreg(first, second, std_weight=std, cov_weight=cov)
    loss = torch.stack(list(terms.values())).sum()
    matches(loss, "eb/vicreg", **{"eb/vicreg_grad1": first, "eb/vicreg_grad2": second})
    alone = [terms["invariance"], terms["std"] / std, terms["cov"] / cov]
    agrees(torch.stack(alone), recording["eb/vicreg_terms"], tolerance=VALUE)


def test_sigreg_of_two_views_as_eb_jepa_has_it(recording, matches, agrees):
    first, second = recording.learning("eb/z1"), recording.learning("eb/z2")
    weight = _factors(recording, "eb/bcs")[0]
    terms = losses.bcs(first, second, recording["eb/bcs_directions"], weight=weight)
    loss = terms["invariance"] + terms["bcs"]
    matches(loss, "eb/bcs", **{"eb/bcs_grad1": first, "eb/bcs_grad2": second})
    alone = [terms["invariance"], terms["bcs"] / weight]
    agrees(torch.stack(alone), recording["eb/bcs_terms"], tolerance=VALUE)


def test_the_statistics_of_pldm(recording, matches):
    z = recording.learning("swm/z")
    by_step = z.transpose(0, 1)
    matches(losses.std_hinge(by_step), "swm/std_loss", **{"swm/std_loss_grad_z": z})
    matches(losses.covariance(by_step), "swm/cov_loss", **{"swm/cov_loss_grad_z": z})
    matches(losses.std_hinge_over_time(z), "swm/std_t_loss", **{"swm/std_t_loss_grad_z": z})
    matches(losses.covariance_over_time(z), "swm/cov_t_loss", **{"swm/cov_t_loss_grad_z": z})


def test_what_pldm_adds_of_time_and_actions(recording, matches, agrees):
    z = recording.learning("swm/z")
    matches(losses.time_similarity(z).mean(), "swm/temp_align_loss", **{"swm/temp_align_loss_grad_z": z})
    error = losses.distance(recording["swm/a_pred"], recording["swm/a_target"], kind="mse")
    agrees(losses.mean_where(error, torch.ones_like(error)), recording["swm/idm_loss"], tolerance=VALUE)


def test_straightening(recording, matches):
    z = recording.learning("swm/z")
    matches(losses.straightening(z).mean(), "swm/straightening", **{"swm/straightening_grad": z})


def test_sigreg_and_its_value_and_gradient_at_collapse(recording, matches):
    z, directions = recording.learning("swm/z"), recording["swm/sigreg_directions"]
    matches(losses.sigreg(z.transpose(0, 1), directions), "swm/sigreg", **{"swm/sigreg_grad": z})
    same = torch.zeros_like(z).requires_grad_()
    collapsed = losses.sigreg(same.transpose(0, 1), directions)
    matches(collapsed, "swm/sigreg_collapsed", **{"swm/sigreg_collapsed_grad": same})


def test_the_composite_regulariser(recording, matches, agrees):
    for case in sorted({name.split("/")[0] for name in recording.below("io/eb/") if re.match(r"reg\d+/", name)}):
        said = recording.meta["tensors"][f"io/eb/{case}/total"]["meaning"]
        x, actions = recording.learning("eb/reg_x"), recording["eb/reg_actions"]
        inverse, projector = _inverse(recording), _projector(recording) if "projector=projector" in said else None
        terms = _composite(x, actions, said, inverse, projector)
        agrees(torch.stack(terms), recording[f"eb/{case}/terms"], tolerance=VALUE)
        total = sum(weight * term for weight, term in zip(_factors(recording, f"eb/{case}/total"), terms, strict=True))
        agrees(sum(terms), recording[f"eb/{case}/unweighted"], tolerance=VALUE)
        matches(total, f"eb/{case}/total", **{f"eb/{case}/grad_x": x})
        for part, module in (("idm", inverse), ("projector", projector)):
            _same_gradients(total, module, recording.below(f"grads/eb_{case}_{part}/"), agrees)


def _composite(
    x: Tensor, actions: Tensor, said: str, inverse: InverseDynamics, projector: nn.Module | None
) -> list[Tensor]:
    """eb_jepa's four terms of state maps ``x [B, C, T, H, W]``: all rows are pooled, or the first step's."""
    sequences = x.transpose(1, 2).flatten(2)  # [B, T, C H W]
    seen = x.movedim(1, -1)  # [B, T, H, W, C]
    if projector is not None:
        seen = projector(seen.flatten(0, 3)).unflatten(0, seen.shape[:4])
    seen = seen[:, :1] if "first_t_only=True" in said else seen
    rows = seen.flatten(0, 3) if "spatial_as_samples=True" in said else seen.movedim(-1, 2).flatten(2).flatten(0, 1)
    margin = re.search(r"std_margin=([\d.]+)", said)
    error = (inverse(sequences) - actions.transpose(1, 2)[:, :-1]).square().mean()
    hinge = losses.std_hinge(rows, margin=float(margin[1].rstrip(".")) if margin else 1.0)
    return [losses.covariance(rows), hinge, losses.time_similarity(sequences).mean(), error]


def _inverse(recording) -> InverseDynamics:
    weights = {name.replace("model.", "net."): x for name, x in recording.below("weights/eb/idm/").items()}
    units, inputs = weights["net.0.weight"].shape
    module = InverseDynamics(inputs // 2, len(weights["net.4.bias"]), units=units)
    module.load_state_dict(weights)
    return module


def _projector(recording) -> nn.Module:
    weights = {name.removeprefix("net."): x for name, x in recording.below("weights/eb/projector/").items()}
    units, inputs = weights["0.weight"].shape
    module = nn.Sequential(
        nn.Linear(inputs, units),
        nn.BatchNorm1d(units),
        nn.ReLU(),
        nn.Linear(units, len(weights["3.weight"]), bias=False),
    )
    module.load_state_dict(weights)
    return module


def _same_gradients(loss: Tensor, module: nn.Module | None, recorded: dict[str, Tensor], agrees) -> None:
    if module is None or not recorded:
        return
    own = dict(module.named_parameters())
    gradients = torch.autograd.grad(loss, list(own.values()), retain_graph=True)
    by_number = {name.partition(".")[2]: gradient for name, gradient in zip(own, gradients)}
    by_number |= dict(zip(own, gradients))
    for name, gradient in recorded.items():
        agrees(by_number[re.sub(r"^(model|net)\.", "", name)], gradient, tolerance=GRADIENT)


def _factors(recording, name: str) -> list[float]:
    """The weights of a loss's terms, in the order of its formula."""
    return [float(number) for number in re.findall(r"([\d.]+) ?\*", recording.meta["tensors"][f"io/{name}"]["meaning"])]
