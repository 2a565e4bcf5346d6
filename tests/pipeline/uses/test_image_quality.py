"""PSNR, SSIM and simple filters."""

import math

import numpy as np
import pytest
import torch

from pipeline.uses import image_quality


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(0)
    a = generator.random((3, 1, 9, 11))
    b = np.clip(a + 0.2 * generator.standard_normal(a.shape), 0, 1)
    return torch.from_numpy(a), torch.from_numpy(b)


def test_ssim_and_psnr_are_those_of_scikit_image() -> None:
    """structural_similarity and peak_signal_noise_ratio of scikit-image 0.26.0, data_range=1."""
    a, b = pair()
    expected = [0.8473567793801207, 0.8422361932270067, 0.8639212569386563]
    assert image_quality.ssim(a, b).tolist() == pytest.approx(expected, abs=1e-12)
    assert image_quality.psnr(a, b) == pytest.approx(15.685685887659078, abs=1e-12)
    assert image_quality.psnr(a, a) == math.inf


def test_images_that_are_met_exactly_have_no_psnr() -> None:
    """A file of JSON with Infinity in it is none."""
    a, b = pair()
    names = [number.name for number in image_quality.quality(a, {"same": a, "other": b})]
    assert names == ["PSNR, other", "SSIM, same", "SSIM, other"]


@pytest.mark.parametrize("mode", ["bicubic", "nearest"])
@pytest.mark.parametrize(("factor", "size"), [(2, (8, 9)), (4, (9, 12))])
def test_enlarging_keeps_the_given_pixels(mode: str, factor: int, size: tuple[int, int]) -> None:
    small = torch.rand(2, 3, *(-(-side // factor) for side in size), dtype=torch.float64)
    large = image_quality.enlarge(small, factor, size, mode)
    assert large.shape == (2, 3, *size)
    torch.testing.assert_close(large[..., ::factor, ::factor], small)


def test_the_nearest_pixel_is_the_nearest() -> None:
    small = torch.arange(6.0).view(1, 1, 2, 3) / 6
    large = image_quality.enlarge(small, 4, (6, 11), "nearest")
    for row in range(6):
        for column in range(11):
            ways = (abs(small.new_tensor([row - 4 * r for r in range(2)])),
                    abs(small.new_tensor([column - 4 * c for c in range(3)])))  # fmt: skip
            r, c = (int(way.argmin()) for way in ways)  # the one before, where two are as near
            assert large[0, 0, row, column] == small[0, 0, r, c], (row, column)


def test_bicubic_interpolation_goes_on_with_a_slope() -> None:
    """A ramp stays one between its pixels, which filters with other centres do not keep."""
    ramp = torch.linspace(0, 1, 8, dtype=torch.float64).expand(1, 1, 8, 8)
    large = image_quality.enlarge(ramp, 2, (16, 16), "bicubic")
    steps = large[0, 0, 4, 4:12].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 1 / 14))
