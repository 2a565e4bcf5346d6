"""Video prediction: given frames stay, and each way of going on is measured for what it is."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.evaluation import image_figures
from pipeline.uses import use_context
from pipeline.uses.video_prediction import VideoPrediction
from tests.support.few_rows import train_on_few

SMALL = {
    "width": 4, "encoder_blocks": 1, "recurrent_width": 4, "decoder_blocks": 1,
    "head_width": 4, "context_frames": 10,
}  # fmt: skip
EXPERIMENTS = {
    f"clips-{dataset}": {
        "dataset": dataset,
        "model": "video_pixel_network",
        "model_overrides": SMALL,
        "trainer": {"max_epochs": 1, "batch_size": 8},
    }
    for dataset in ("moving_digits", "moving_digits_binary")
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:
    folder = tmp_path_factory.mktemp("project")
    train_on_few(folder, migrated, EXPERIMENTS, 16)
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_given_frames_stay_and_each_way_of_going_on_is_measured(
    clips: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(clips)
    context = use_context.load(name)
    settings = VideoPrediction(num_clips=2, num_draws=2, num_shown=2)
    outcome = settings.run(context, tmp_path)
    found = {number.name: number.value for number in outcome.numbers}
    x, highest = context.rows("test", 2).x, context.levels.num_levels - 1
    truth = x.double() / highest
    expected = torch.from_numpy(image_figures.expected(context.model, x, None, 10))
    others = {
        "the last given frame": truth[:, 9:10].expand(-1, 10, -1, -1, -1),
        "the true frame before": truth[:, 9:19],
        "expected one frame ahead": expected[:, 10:] / highest,
    }
    for what, other in others.items():
        psnr = -10 * math.log10(float((truth[:, 10:] - other).square().mean()))
        assert found[f"PSNR, {what}"] == pytest.approx(psnr, rel=1e-4)
    assert found["PSNR, the mean of all draws"] > found["PSNR, a draw"]
    assert [shown.file for shown in outcome.shown] == ["clips.png", "horizon.png"]
    with Image.open(tmp_path / "clips.png") as picture:
        assert picture.n_frames == 21, "one of them for who knows no animation"
        different = [_differ(picture, frame) for frame in range(1, 21)]
    assert different[:10] == [False] * 10 and different[10]


def _differ(picture: Image.Image, frame: int) -> bool:
    """Tell whether the versions of the first clip, one below the other, differ in a frame."""
    picture.seek(frame)
    rows = np.split(np.asarray(picture.convert("RGB")), 4)
    inside = [row[2:-2, 2:66] for row in rows]
    return any((row != inside[0]).any() for row in inside[1:])
