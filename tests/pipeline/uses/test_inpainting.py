"""In-painting: which pixels are missing, what they cost, and when that is exact."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arcore.events import Levels
from arcore.inference import completion
from pipeline.uses import use_context
from pipeline.uses.inpainting import MASKS, REORDERED, Inpainting, missing_pixels

QUICK = Inpainting(num_rows=20, num_shown=3, num_completions=2, num_particles=8)


@pytest.mark.parametrize("mask", MASKS)
def test_masks_leave_something_and_all_colours_of_a_pixel(mask: str) -> None:
    event = Levels(256, (3, 8, 6))
    missing = missing_pixels(mask, event)
    assert missing.shape == event.shape and torch.equal(missing[0], missing[2])
    assert 0 < int(missing.sum()) < missing.numel()


@pytest.mark.parametrize(
    ("model", "exact"),
    [("nade", ["lower"]), ("gated_pixelcnn", ["lower"]), ("parallel_multiscale", [])],
)
def test_numbers_say_whether_they_are_exact(project: Path, model: str, exact: list[str]) -> None:
    loaded = use_context.load(f"toy-{model}")
    found = QUICK.run(loaded, project)
    under = [number for number in found.numbers if REORDERED in number.name]
    own = [number for number in found.numbers if number not in under]
    signs = dict(zip(QUICK.masks, (number.sign for number in own), strict=True))
    assert signs == {mask: "" if mask in exact else "~" for mask in MASKS}
    assert [shown.file for shown in found.shown] == [f"{mask}.png" for mask in MASKS]
    for shown in found.shown:
        with Image.open(project / shown.file) as picture:
            assert len(np.unique(np.asarray(picture)[..., :3].reshape(-1, 3), axis=0)) > 3
    assert len(under) == (3 if model == "nade" else 0) and not any(one.sign for one in under)
    assert ("NADE has weights for any order" in found.notes) == bool(under)
    for number, mask in zip(own, MASKS, strict=True):
        count = int(missing_pixels(mask, loaded.images).sum())
        assert number.unit == f"nats of {count} of 64 pixels"
        assert number.value < 1.5 * count and number.stderr is not None
    if exact:
        rows = loaded.rows("test", 20)
        observed = ~missing_pixels("lower", loaded.images)
        by_hand = -completion.log_prob_missing(loaded.model, rows.x, observed, rows.condition)
        assert found.numbers[0].value == pytest.approx(float(by_hand.mean()), rel=1e-5)


def test_made_of_several_orderings_is_exact_for_every_mask(project: Path) -> None:
    found = QUICK.run(use_context.load("toy-made"), project)
    assert [number.sign for number in found.numbers] == [""] * len(MASKS)


def test_estimates_come_near_what_is_exact(project: Path) -> None:
    """A raster model's lower half, exactly and by the filter: with one particle they agree."""
    loaded = use_context.load("toy-nade")
    rows = loaded.rows("test", 10)
    settings = dataclasses.replace(QUICK, num_particles=1)
    masked = settings.under("lower", loaded)
    exact, estimated = masked.nats(rows), masked.estimated_nats(rows)
    torch.testing.assert_close(exact.double(), estimated, rtol=1e-4, atol=1e-3)


def test_draws_keep_what_is_observed(project: Path) -> None:
    loaded = use_context.load("toy-nade")
    rows = loaded.rows("test", 5)
    for mask in MASKS:
        masked = QUICK.under(mask, loaded)
        assert (masked.exact is not None) == (mask == "lower")
        filtered = [masked.filtered(rows, loaded.generator(n)) for n in range(2)]
        of_filter = [one.draw(loaded.generator(n)) for n, one in enumerate(filtered)]
        for drawn in (of_filter, [masked.draw(rows, n) for n in range(2)]):
            for x in drawn:
                kept = rows.x.long()[:, masked.observed]
                assert torch.equal(x[:, masked.observed], kept)
            assert not torch.equal(*drawn)
