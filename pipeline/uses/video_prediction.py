"""Video prediction: frames drawn after the given frames of a clip."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from pipeline.core.errors import require
from pipeline.evaluation import image_figures
from pipeline.uses import image_quality, pictures
from pipeline.uses.use_base import Use, setting
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import Shown, UseOutcome

AHEAD, BEFORE = "expected one frame ahead", "the true frame before"
DRAW, MEAN, LAST = "a draw", "the mean of all draws", "the last given frame"


@dataclass(frozen=True, kw_only=True)
class VideoPrediction(Use):
    """Continue test clips after their given frames, and compare with the truth."""

    num_clips: int = setting(8, "random test clips that are continued", least=2)
    num_draws: int = setting(4, "draws of each clip", least=2)
    num_shown: int = setting(2, "draws in the animated picture", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        fits, most = self.num_shown <= self.num_draws, f"at most num_draws, {self.num_draws}"
        require(fits, "num_shown", most, self.num_shown)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event, given = context.levels, context.manifest.context_frames
        if not image_figures.are_clips(event) or not given:
            raise context.unfit_event("clips whose first frames are given")
        rows = context.rows("test", self.num_clips, self.seed)
        observed = torch.zeros(rows.x.shape[1:], dtype=torch.bool, device=rows.x.device)
        observed[:given] = True
        draws = context.draw([rows], observed, self.num_draws, self.seed)
        real = rows.x.cpu()
        expected = torch.from_numpy(
            image_figures.expected(context.model, rows.x, rows.condition, given)
        )
        truth, ahead, *went_on = (
            image_quality.shades(clips, event) for clips in (real, expected, *draws)
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
        clips = [x.numpy() for x in (real, expected, *draws[: self.num_shown])]
        image_figures.save_clips(folder / "clips.png", clips, event, given)
        caption = (
            "Clips, one a column, animated: true, expected one frame ahead, and drawn "
            "(teal: given frames, orange: the model's)"
        )
        horizon = _figure(truth[:, given:], after, given)
        shown = [
            Shown(file="clips.png", caption=caption),
            pictures.show(horizon, folder / "horizon.png", "PSNR of each frame after those given"),
        ]
        notes = (
            f"{len(rows)} random test clips; {given} of {len(real[0])} frames are given, the rest "
            "compared. One frame ahead is the model's expectation given all true frames before; a "
            "draw continues from its own frames. The mean of draws approaches the best guess, "
            f"which has half the squared error of a draw. {image_quality.NOTE}"
        )
        return UseOutcome(numbers, shown, notes + context.condition_note)


def _figure(truth: Tensor, made: Mapping[str, Tensor], given: int) -> Figure:
    figure, axes = pictures.new_axes(5.6, 3.6)
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
