"""Denoising: the noise is what it is called, and what is measured is what is drawn."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from arcore.events import Binary, Levels
from arcore.inference.posterior import posterior, replacement_noise
from pipeline.core.errors import UserError
from pipeline.uses import image_quality, use_context
from pipeline.uses.restoration import Denoising


@pytest.mark.parametrize("event", [Binary((1, 40, 50)), Levels(5, (3, 20, 30))], ids=str)
def test_replaced_levels_are_others_at_the_stated_rate(event: Levels) -> None:
    x = torch.randint(event.num_levels, (3, *event.extents))
    noisy = Denoising(amount=0.3).add_noise(x, event)
    event.check(noisy)
    share = float((noisy != x).double().mean())
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / x.numel()))


def test_numbers_are_of_the_particles(project: Path) -> None:
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
