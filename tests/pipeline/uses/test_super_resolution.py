"""Super-resolution: what is given stays, what is drawn is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from arcore.inference import completion
from pipeline.core.errors import UserError
from pipeline.uses import image_quality, subject, super_resolution
from pipeline.uses.super_resolution import MEAN, Settings, given_pixels


def test_numbers_are_of_the_images_drawn(project: Path) -> None:
    loaded = subject.load("toy-parallel_multiscale")
    settings = Settings(num_rows=12, num_shown=3, num_draws=2)
    outcome = super_resolution.run(loaded, settings, project)
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
        nats = -completion.log_prob_missing(loaded.model, rows.x, observed).mean()
        name = f"{factor}x: the other pixels given the small image"
        assert found[name] == pytest.approx(float(nats), rel=1e-5)
        assert (project / f"{factor}x.png").is_file()


def test_a_factor_that_the_order_has_not_is_left_out_and_said(project: Path) -> None:
    loaded = subject.load("toy-parallel_multiscale")
    settings = Settings(factors=[2, 3], num_rows=4, num_draws=1)
    outcome = super_resolution.run(loaded, settings, project)
    assert "The model's order has no small image of 3x." in outcome.notes
    assert [shown.file for shown in outcome.shown] == ["2x.png"]


def test_raster_models_are_refused(project: Path) -> None:
    with pytest.raises(UserError, match="toy-nade: expected small images first in the order"):
        super_resolution.run(subject.load("toy-nade"), Settings(num_rows=2), project)
