"""Enlarging and denoising: PSNR, SSIM and simple filters, and what is drawn and measured."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from arcore.events import Binary, Levels
from arcore.inference import completion
from arcore.inference.posterior import posterior, replacement_noise
from pipeline.core.errors import UserError
from pipeline.uses import image_quality, restoration, use_context
from pipeline.uses.restoration import MEAN, Denoising, SuperResolution, given_pixels


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


@pytest.mark.parametrize("event", [Binary((1, 40, 50)), Levels(5, (3, 20, 30))], ids=str)
def test_replaced_levels_are_others_at_the_stated_rate(event: Levels) -> None:
    x = torch.randint(event.num_levels, (3, *event.extents))
    noisy = Denoising(amount=0.3).add_noise(x, event)
    event.check(noisy)
    share = float((noisy != x).double().mean())
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / x.numel()))


def test_denoised_numbers_are_of_the_particles(project: Path) -> None:
    loaded = use_context.load("toy-nade")
    settings = Denoising(amount=0.2, num_rows=15, num_particles=8)
    found = {n.name: n.value for n in settings.run(loaded, project).numbers}
    x = loaded.rows("test", 15).x
    noisy = settings.add_noise(x, loaded.images)
    seen = replacement_noise(noisy, 0.2, 2)
    particles = posterior(loaded.model, seen, 8, generator=loaded.generator(0))
    mean = image_quality.psnr(x.double(), particles.mean())
    name = "20% replaced"
    assert found[f"{name}: PSNR, the posterior mean"] == pytest.approx(mean)
    before = image_quality.psnr(x.double(), noisy.double())
    assert found[f"{name}: PSNR, noisy"] == pytest.approx(before)
    median = image_quality.psnr(x.double(), image_quality.median_filter(noisy.double()))
    assert found[f"{name}: PSNR, median filter"] == pytest.approx(median)
    assert mean > max(before, median), "even a model of one epoch knows where digits are"
    assert (project / "images.png").is_file()
    with pytest.raises(UserError, match="amount: expected a number in"):
        Denoising(amount=0.0)


def test_numbers_are_of_the_images_drawn(project: Path) -> None:
    loaded = use_context.load("toy-parallel_multiscale")
    settings = SuperResolution(num_rows=12, num_shown=3, num_draws=2)
    outcome = settings.run(loaded, project)
    found = {number.name: number.value for number in outcome.numbers}
    rows = loaded.rows("test", 12)
    for factor in (2, 4):
        observed = given_pixels(loaded.images.extents, factor)
        assert int(observed.sum()) == 64 // factor**2
        generator = loaded.generator(0)
        draws = [loaded.model.impute(rows.x, observed, None, generator).double() for _ in range(2)]
        assert torch.equal(draws[0][:, observed], rows.x[:, observed].double())
        truth = rows.x.double()
        psnr = {"one draw": draws[0], MEAN: (draws[0] + draws[1]) / 2}
        for name, x in psnr.items():
            expected = image_quality.psnr(truth, x)
            assert found[f"{factor}x: PSNR, {name}"] == pytest.approx(expected)
        bicubic = image_quality.enlarge(truth[..., ::factor, ::factor], factor, (8, 8), "bicubic")
        expected = float(image_quality.ssim(truth, bicubic).mean())
        assert found[f"{factor}x: SSIM, bicubic"] == pytest.approx(expected)
        variance = (draws[0] - draws[1]).square() / 2
        error = (psnr[MEAN] - truth).square() - variance / 2
        expected = -10 * math.log10(float(error.mean()))
        name = f"{factor}x: PSNR, the mean of endlessly many draws"
        assert found[name] == pytest.approx(expected)
        nats = -completion.log_prob_missing(loaded.model, rows.x, observed).mean()
        name = f"{factor}x: the other pixels given the small image"
        assert found[name] == pytest.approx(float(nats), rel=1e-5)
        assert (project / f"{factor}x.png").is_file()


def test_a_right_posterior_is_told_from_a_sure_one() -> None:
    """Truth and draws from one distribution: a draw loses 3 dB, and the variance is the error."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(40, 1, 8, 8, generator=generator).double()
    drawn = (torch.rand(9, 40, 1, 8, 8, generator=generator) < means).double()
    truth, draws = drawn[0], drawn[1:]
    limit, ratio = restoration.posterior_mean("2x", truth, draws)
    assert limit.sign == "~" and ratio.value == pytest.approx(1, abs=0.05)
    assert limit.value == pytest.approx(image_quality.psnr(truth, means), abs=0.15)
    single = image_quality.psnr(truth.expand(8, *truth.shape).flatten(0, 1), draws.flatten(0, 1))
    assert limit.value - single == pytest.approx(10 * math.log10(2), abs=0.15)
    sure = restoration.posterior_mean("2x", truth, draws[:1].expand(4, -1, -1, -1, -1))
    assert sure[1].value == 0


def test_a_factor_that_the_order_has_not_is_left_out_and_said(project: Path) -> None:
    loaded = use_context.load("toy-parallel_multiscale")
    settings = SuperResolution(factors=[2, 3], num_rows=4, num_draws=2)
    outcome = settings.run(loaded, project)
    assert "The model's order has no small image of 3x." in outcome.notes
    assert [shown.file for shown in outcome.shown] == ["2x.png"]
