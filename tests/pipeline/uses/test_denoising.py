"""Denoising: the noise is what it is called, and what is measured is what is drawn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from arcore.events import Binary, Levels
from arcore.inference.posterior import posterior
from pipeline.core.errors import UserError
from pipeline.uses import image_quality, use_context
from pipeline.uses.denoising import Denoising


@pytest.mark.parametrize("event", [Binary((1, 40, 50)), Levels(5, (3, 20, 30))], ids=str)
def test_replaced_levels_are_others_at_the_stated_rate(event: Levels) -> None:
    x = torch.randint(event.num_levels, (3, *event.extents))
    settings = Denoising(amount=0.3)
    noisy = settings.add_noise(x, event)
    seen = settings.log_likelihood(noisy, event).exp()
    event.check(noisy)
    share = float((noisy != x).double().mean())
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / x.numel()))
    expected = torch.where(noisy == x, 0.7, 0.3 / (event.num_levels - 1))
    torch.testing.assert_close(seen.gather(-1, x[..., None])[..., 0], expected)
    torch.testing.assert_close(seen.sum(-1), torch.ones(x.shape))


def test_gaussian_noise_has_the_stated_deviation() -> None:
    event = Levels(17, (1, 50, 50))
    x = torch.full((2, 1, 50, 50), 8)
    settings = Denoising(noise="gaussian", amount=0.25)
    noisy = settings.add_noise(x, event)
    seen = settings.log_likelihood(noisy, event)
    assert float((noisy - x).std()) == pytest.approx(0.25 * 16, rel=0.05)
    assert float(seen[..., 8].mean()) == pytest.approx(
        -0.5 - math.log(4 * math.sqrt(2 * math.pi)), abs=0.05
    )


@pytest.mark.parametrize("noise", ["replaced", "gaussian"])
def test_numbers_are_of_the_particles(project: Path, noise: str) -> None:
    loaded = use_context.load("toy-nade")
    settings = Denoising(noise=noise, amount=0.2, num_rows=15, num_particles=8)
    found = {n.name: n.value for n in settings.run(loaded, project).numbers}
    x = loaded.rows("test", 15).x
    noisy = settings.add_noise(x, loaded.images)
    seen = settings.log_likelihood(noisy, loaded.images)
    particles = posterior(loaded.model, seen, 8, generator=loaded.generator(0))
    mean = image_quality.psnr(x.double(), particles.mean())
    name = "20% replaced" if noise == "replaced" else "Gaussian, deviation 0.2"
    assert found[f"{name}: PSNR, the posterior mean"] == pytest.approx(mean)
    before = image_quality.psnr(x.double(), noisy.double().clamp(0, 1))
    assert found[f"{name}: PSNR, noisy"] == pytest.approx(before)
    median = image_quality.psnr(x.double(), image_quality.median_filter(noisy.double().clamp(0, 1)))
    assert found[f"{name}: PSNR, median filter"] == pytest.approx(median)
    assert mean > max(before, median), "even a model of one epoch knows where digits are"
    assert (project / "images.png").is_file()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"noise": "salt"}, "unknown noise 'salt'"),
        ({"amount": 0.0}, "amount: expected a number in"),
    ],
)
def test_settings_are_checked(setting: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Denoising(**setting)
