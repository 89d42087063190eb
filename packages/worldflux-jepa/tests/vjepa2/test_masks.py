"""Masks have the counts that were asked for, look at every moment, and always come to an end."""

from __future__ import annotations

import pytest
import torch

from worldflux import ConfigurationError
from worldflux_jepa.vjepa2 import masks as masks_module
from worldflux_jepa.vjepa2.masks import EvenMasks, OfficialMasks

RATIO = (0.75, 1.5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("rows", "columns", "blocks", "scale"), [(8, 8, 8, 0.15), (4, 6, 2, 0.7), (1, 2, 3, 0.9)])
def test_every_time_step_of_every_clip_has_its_share_of_both(rows, columns, blocks, scale):
    places = rows * columns
    context, targets = max(1, places // 4), places // 2
    masks = EvenMasks(rows, columns, blocks, scale, RATIO, context, targets).draw(5, 3, generator=generator())
    for ids, count in ((masks.context, context), (masks.target, targets)):
        assert ids.shape == (5, 3 * count)
        steps = torch.nn.functional.one_hot(ids // places, 3).sum(1)
        assert (steps == count).all()


def test_no_token_is_shown_and_hidden_and_none_twice():
    masks = EvenMasks(4, 4, 8, 0.15, RATIO, 6, 10).draw(16, 4, generator=generator())
    both = torch.cat([masks.context, masks.target], 1)
    assert (both.sort(1).values == torch.arange(64)).all()


def test_ids_come_in_their_order():
    masks = EvenMasks(4, 4, 2, 0.3, RATIO, 4, 8).draw(8, 3, generator=generator())
    assert all((ids.diff(dim=1) > 0).all() for ids in masks)


def test_targets_lie_under_the_blocks_and_the_context_beside_them_where_there_is_room():
    even = EvenMasks(8, 8, 1, 0.25, (1.0, 1.0), 20, 12)  # one block of 4 x 4 places
    covered = even.covered(32, generator=generator())
    assert (covered.sum(1) == 16).all()
    masks = even.draw(32, 2, generator=generator())
    assert covered.gather(1, masks.target % 64).all()
    assert not covered.gather(1, masks.context % 64).any()


def test_blocks_reach_every_place_and_clips_differ():
    covered = EvenMasks(5, 5, 1, 0.2, RATIO, 1, 1).covered(400, generator=generator())
    assert (covered.sum(0) > 0).all()
    assert len(covered.unique(dim=0)) > 10


def test_one_seed_draws_one_mask():
    even = EvenMasks(4, 4, 8, 0.15, RATIO, 4, 8)
    first, again, other = (even.draw(3, 2, generator=generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.target, again.target)
    assert not torch.equal(first.target, other.target)


@pytest.mark.parametrize(("context", "targets"), [(0, 4), (4, 0), (9, 8)])
def test_even_masks_that_leave_nothing_are_refused(context, targets):
    with pytest.raises(ConfigurationError, match="leave nothing of one of them"):
        EvenMasks(4, 4, 2, 0.3, RATIO, context, targets)


# --- the official generator where the official program fails ----------------------------------------------------------


def test_a_block_that_would_cover_everything_leaves_a_column_to_show():
    official = OfficialMasks(4, 4, 2, 1, (1.0, 1.0), (1.0, 1.0))
    assert official.block_size(0.5, 0.5, 0.5) == (2, 4, 3)
    masks = official.draw(3, iteration=0, generator=generator())
    assert masks.context.shape == (3, 8)
    assert masks.target.shape == (3, 24)


@pytest.mark.parametrize(("rows", "columns", "steps"), [(1, 2, 1), (2, 1, 1), (1, 1, 2)])
def test_a_single_token_of_context_and_target_is_a_mask(rows, columns, steps):
    official = OfficialMasks(rows, columns, steps, 1, (1.0, 1.0), (1.0, 1.0), (0.5, 0.5) if steps == 2 else (1.0, 1.0))
    context, target = official.draw(4, iteration=0, generator=generator())
    assert context.shape == target.shape == (4, 1)
    assert (context != target).all()


def test_blocks_that_never_leave_a_context_come_to_an_end(monkeypatch):
    monkeypatch.setattr(masks_module, "ATTEMPTS", 20)
    official = OfficialMasks(2, 2, 1, 60, (0.5, 0.5), (1.0, 1.0))
    with pytest.raises(ConfigurationError, match="60 blocks of 1 x 1 places leave nothing of 2 x 2"):
        official.draw(1, iteration=0, generator=generator())


def test_blocks_too_small_to_hide_anything_are_refused():
    with pytest.raises(ConfigurationError, match="hide nothing: raise the scale"):
        OfficialMasks(4, 4, 1, 2, (0.01, 0.01), RATIO).draw(1, iteration=0, generator=generator())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"rows": 1, "columns": 1, "steps": 1}, "a clip of one token"),
        ({"temporal_keep": 0.2}, "leaves no context"),
        ({"max_keep": 0}, "leave nothing of a mask"),
        ({"blocks": 0}, "leave nothing of a mask"),
    ],
)
def test_official_masks_that_leave_nothing_are_refused(options, word):
    given = {"rows": 4, "columns": 4, "steps": 2, "blocks": 2, "scale": (0.3, 0.3), "aspect": RATIO, **options}
    with pytest.raises(ConfigurationError, match=word):
        OfficialMasks(**given)


def test_the_official_truncation_starves_late_steps_and_ours_does_not():
    official = OfficialMasks(8, 8, 4, 8, (0.15, 0.15), RATIO)
    late = [
        (official.draw(24, iteration=i, generator=generator(i)).context // 64 == 3).float().mean() for i in range(8)
    ]
    assert float(torch.stack(late).mean()) < 0.15
    even = EvenMasks(8, 8, 8, 0.15, RATIO, 16, 29).draw(24, 4, generator=generator())
    assert float((even.context // 64 == 3).float().mean()) == 0.25
