"""Video prediction: frames drawn after those that a clip's protocol gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from arcore.events import Levels
from arcore.primitives.progress import progress_bar
from pipeline.core.errors import UserError, require
from pipeline.evaluation import video_figures
from pipeline.uses import image_quality, pictures
from pipeline.uses.outcome import Outcome
from pipeline.uses.records import Shown
from pipeline.uses.subject import Subject

AHEAD, BEFORE = "expected one frame ahead", "the true frame before"
DRAW, MEAN, LAST = "a draw", "the mean of all draws", "the last given frame"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of video prediction.

    Arguments:
        num_clips: random test clips that go on.
        num_draws: of each clip.
        num_shown: of the draws in the animated picture.
        seed: of rows and draws.
    """

    num_clips: int = 8
    num_draws: int = 4
    num_shown: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_clips", "num_draws"):
            require(getattr(self, name) >= 2, name, "an integer >= 2", getattr(self, name))
        require(
            1 <= self.num_shown <= self.num_draws,
            "num_shown",
            f"an integer from 1 to num_draws={self.num_draws}",
            self.num_shown,
        )


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Let test clips go on after their given frames, and measure how far from the truth."""
    event, given = _clips_of(subject)
    rows = subject.rows("test", settings.num_clips, settings.seed)
    real = rows.x.cpu().numpy()
    observed = torch.zeros(event.extents, dtype=torch.bool, device=rows.x.device)
    observed[:given] = True
    generator, draws = subject.generator(settings.seed), []
    with progress_bar(subject.progress, settings.num_draws, "draws") as advance:
        for _ in range(settings.num_draws):
            drawn = subject.model.impute(rows.x, observed, rows.condition, generator)
            draws.append(drawn.cpu().numpy())
            advance(1)
    expected = video_figures.expected(subject.model, real, rows.condition, given)
    truth, ahead, *went_on = (
        image_quality.shades(torch.from_numpy(clips), event) for clips in (real, expected, *draws)
    )
    made = {
        AHEAD: ahead,
        BEFORE: truth.roll(1, 1),
        DRAW: went_on[0],
        MEAN: torch.stack(went_on).mean(0),
        LAST: truth[:, given - 1 : given].expand_as(truth),
    }
    after = {name: clips[:, given:] for name, clips in made.items()}
    numbers = image_quality.quality(truth[:, given:], after)
    video_figures.save_clips(
        folder / "clips.png", [real, expected, *draws[: settings.num_shown]], event, given
    )
    pictures.save(_figure(truth[:, given:], after, given), folder / "horizon.png")
    shown = [
        Shown(
            file="clips.png",
            caption="Clips, one a column, animated: true, expected one frame ahead, and drawn "
            "(teal: given frames, orange: the model's)",
        ),
        Shown(file="horizon.png", caption="PSNR of each frame after those given"),
    ]
    notes = (
        f"{len(rows)} random test clips, of which {given} of {len(real[0])} frames are given and "
        "the others are compared. One frame ahead, every frame is the model's expectation given "
        "the true frames before it; a draw goes on from its own frames, and a draw of what cannot "
        "be known has twice the squared error of the best guess, to which the mean of draws "
        "tends. PSNR is that of the mean squared error over all frames; SSIM has windows of 7 x 7 "
        "pixels."
    )
    return Outcome(numbers, shown, notes + subject.what_is_told)


def _clips_of(subject: Subject) -> tuple[Levels, int]:
    """Return the event, and how many frames are given.

    Raises:
        UserError: for a model of other things than clips whose first frames are given.
    """
    event, given = subject.levels, subject.manifest.context_frames
    if len(event.shape) != 4 or event.shape[1] not in (1, 3) or not given:
        raise UserError(
            f"{subject.experiment}: expected a model of clips whose first frames are given, "
            f"got one of {event}"
        )
    return event, given


def _figure(truth: Tensor, made: Mapping[str, Tensor], given: int) -> Figure:
    figure = Figure(figsize=(5.6, 3.6), layout="constrained", dpi=pictures.DPI)
    axes = figure.subplots()
    places = range(given + 1, given + 1 + truth.shape[1])
    for name, clips in made.items():
        frames = zip(truth.unbind(1), clips.unbind(1), strict=True)
        psnr = [image_quality.psnr(true, x) for true, x in frames]
        axes.plot(places, psnr, "o-", markersize=3, label=name)
    axes.set_xlabel("frame", fontsize=8)
    axes.set_ylabel("PSNR, dB", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=3, fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
