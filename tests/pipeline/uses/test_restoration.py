"""Restored images: noise is what it is called, what is given stays, what is drawn is measured."""

import math
from pathlib import Path

import pytest
import torch

from arcore.events import Binary, Levels
from arcore.inference import completion
from arcore.inference.posterior import posterior, replacement_noise
from pipeline.core.errors import UserError
from pipeline.uses import image_quality, restoration, use_context
from pipeline.uses.restoration import MEAN, Denoising, SuperResolution, given_pixels


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
