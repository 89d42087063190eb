"""PSNR and SSIM give the numbers of torchmetrics 1.9.0, recorded in ``images.safetensors``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from worldflux.evals import mse, psnr, ssim
from worldflux.evals.metrics import Similarity, similar_enough

RECORDED = load_file(Path(__file__).parent / "images.safetensors")
CASES = sorted({name.split("/")[0] for name in RECORDED})


@pytest.mark.parametrize("case", CASES)
def test_ssim_is_that_of_torchmetrics(case):
    found = ssim(RECORDED[f"{case}/pred"], RECORDED[f"{case}/target"])
    np.testing.assert_allclose(found, RECORDED[f"{case}/ssim_per_image"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_psnr_is_that_of_torchmetrics(case):
    error = mse(RECORDED[f"{case}/pred"], RECORDED[f"{case}/target"])
    np.testing.assert_allclose(psnr(error), RECORDED[f"{case}/psnr_per_image"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(psnr(error.mean()), RECORDED[f"{case}/psnr_batch"], atol=1e-4, rtol=0)


def test_scores_do_not_depend_on_the_range_that_images_are_stored_in():
    pred, target = RECORDED["blur/pred"], RECORDED["blur/target"]
    wide = pred.astype(np.float64) * 255, target.astype(np.float64) * 255
    np.testing.assert_allclose(ssim(*wide, data_range=255), ssim(pred, target), atol=1e-9)
    np.testing.assert_allclose(psnr(mse(*wide), data_range=255), psnr(mse(pred, target)), atol=1e-6)


def test_the_same_image_is_as_similar_as_can_be():
    image = RECORDED["minimum/target"]
    np.testing.assert_allclose(ssim(image, image), 1, atol=1e-12)
    assert np.isinf(psnr(mse(image, image))).all()


def test_ssim_is_refused_for_images_smaller_than_its_window_is_padded_by():
    assert not similar_enough((1, 5, 20)) and similar_enough((1, 6, 20))
    with pytest.raises(ValueError, match="more than 5 pixels"):
        Similarity(np.zeros((1, 1, 5, 20)))
