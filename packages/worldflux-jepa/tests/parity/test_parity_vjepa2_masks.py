"""The official generator of masks, number by number."""

from __future__ import annotations

import pytest
import torch

from worldflux_jepa.vjepa2.masks import OfficialMasks

RECORDED = "vjepa2_masks"
OPTIONS = {
    "max_context_frames_ratio": "temporal_keep", "max_keep": "max_keep", "full_complement": "full_complement",
    "pred_full_complement": "pred_full_complement", "inv_block": "inverted",
}  # fmt: skip
READ = {
    *OPTIONS, "crop_size", "num_frames", "spatial_patch_size", "temporal_patch_size", "spatial_pred_mask_scale",
    "temporal_pred_mask_scale", "aspect_ratio", "npred",
}  # fmt: skip


def masks_of(config) -> OfficialMasks:
    assert set(config) <= READ
    crop = config["crop_size"] if isinstance(config["crop_size"], list) else [config["crop_size"]] * 2
    rows, columns = (side // config["spatial_patch_size"] for side in crop)
    return OfficialMasks(
        rows,
        columns,
        config["num_frames"] // config["temporal_patch_size"],
        config["npred"],
        tuple(config["spatial_pred_mask_scale"]),
        tuple(config["aspect_ratio"]),
        tuple(config["temporal_pred_mask_scale"]),
        **{own: config[name] for name, own in OPTIONS.items() if name in config},
    )


@pytest.fixture
def drawn(recording):
    """For every batch of every case: the masks, what was recorded, the case, and a generator where it stood then."""
    found = []
    for name, case in recording.meta["cases"].items():
        masks = masks_of(case["config"])
        assert [masks.steps, masks.rows, masks.columns] == case["grid_t_h_w"]
        generator = torch.Generator().manual_seed(case["global_torch_manual_seed_before_it0"])
        for iteration in range(len(case["iterations"])):
            said = recording.below(f"io/{name}/it{iteration}/")
            before = generator.clone_state()
            found.append((masks, said, case["batch"], iteration, before))
            masks.draw(case["batch"], iteration=iteration, generator=generator)
    assert found
    return found


def test_the_size_of_a_block_follows_from_the_iteration(drawn):
    for masks, said, _, iteration, _ in drawn:
        generator = torch.Generator().manual_seed(iteration)
        uniform = torch.cat([torch.rand(1, generator=generator) for _ in range(3)])
        assert torch.equal(uniform, said["u"])
        assert list(masks.block_size(*uniform.tolist())) == said["block_size"].tolist()


def test_places_are_drawn_until_each_clip_has_a_context(drawn):
    for masks, said, batch, _, generator in drawn:
        size, accepted = tuple(said["block_size"].tolist()), []
        for number, places in enumerate(said["positions"].tolist()):
            assert masks.places(size, generator) == [tuple(place) for place in places]
            if len(masks.split(size, places)[0]):
                accepted.append(number)
        assert accepted == said["accepted"].tolist()
        assert len(accepted) == batch


def test_ids_before_they_are_cut(drawn):
    for masks, said, batch, _, generator in drawn:
        size = tuple(said["block_size"].tolist())
        samples = [masks.sample(size, generator) for _ in range(batch)]
        for ids, name in zip(zip(*samples, strict=True), ("context", "target"), strict=True):
            assert [len(each) for each in ids] == said[f"{name}_len"].tolist()
            assert torch.equal(torch.cat(ids), said[f"{name}_ids"].long())


def test_what_the_generator_returns(drawn):
    for masks, said, batch, iteration, generator in drawn:
        context, target = masks.draw(batch, iteration=iteration, generator=generator)
        assert torch.equal(context, said["return0"].long())
        assert torch.equal(target, said["return1"].long())
