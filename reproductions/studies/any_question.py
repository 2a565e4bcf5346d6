"""Networks that answer any question: missing pixels, calibration, and nats lost by fewer steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, cast

import torch
from matplotlib.figure import Figure
from torch import Tensor

from arcore import zoo
from arcore.families.any_order import AnyOrderModel
from arcore.inference import parallel_steps
from arcore.inference.completion import observed_first
from arcore.primitives.masks import draw_masks
from pipeline.core.errors import require, unknown_name
from pipeline.datasets.options import AtLeastOne, expected
from pipeline.uses import pictures, use_context
from pipeline.uses.inpainting import MASKS, MaskedImages, missing_pixels
from pipeline.uses.use_context import UseContext
from reproductions.studies.model_times import seconds_of
from reproductions.studies.study_base import (
    Counts,
    StudyContext,
    StudyOutcome,
    device_of,
    with_error,
)
from reproductions.studies.trained_networks import NetworkStudy

INTERVALS = (0.5, 0.9)
SHOWN, COMPLETIONS, SIMULATED, DRAWN = 8, 3, 16, 100


@dataclass(frozen=True, kw_only=True)
class AnyQuestion(NetworkStudy):
    """Networks of any order; a particle filter of the last one is compared under the first mask."""

    masks: Annotated[list[str], expected("one or more", bool)] = field(
        default_factory=lambda: list(MASKS)
    )
    steps: Counts = field(default_factory=lambda: [4, 8, 16])
    num_rows: AtLeastOne = 50
    num_particles: AtLeastOne = 16
    num_masks: AtLeastOne = 12
    num_orders: AtLeastOne = 4

    def __post_init__(self) -> None:
        for name in self.masks:
            if name not in MASKS:
                raise unknown_name("mask", name, MASKS)

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Train the networks, then score, simulate and draw."""
        most = context.images.size
        require(max(self.steps) <= most, "steps", f"integers in [1, {most}]", self.steps)
        configs = {title: context.compose(title, one) for title, one in self.networks.items()}
        for title, config in configs.items():
            fits = issubclass(zoo.model_class(str(config.model["name"])), AnyOrderModel)
            require(fits, context.where(title), "a model of any order", config.model["name"])
        trained = {title: context.train(config) for title, config in configs.items()}
        uses = {title: use_context.load(one.experiment) for title, one in trained.items()}
        first, *_ = uses.values()
        images = first.rows("test", self.num_rows).spread(SHOWN)
        shown = [
            pictures.show(
                self._masked(first, mask).figure(images, COMPLETIONS), folder / f"{mask}.png",
                f"{MASKS[mask]} (orange), drawn by the first network",
            )
            for mask in self.masks
        ]  # fmt: skip
        caption = (
            "Nats lost by fewer steps: predicted on validation images, measured on test images"
        )
        shown.append(pictures.show(self._steps(uses), folder / "steps.png", caption))
        notes = (
            f"{MASKS[self.masks[0]]}: -ln p(missing | observed) of {self.num_rows} test images, "
            "and seconds for all, the shortest of three runs or more. Covered: how often the "
            f"middle part of {self.num_particles} draws holds the number of missing white pixels, "
            f"of {SIMULATED * self.num_masks} images drawn from the network under "
            f"{self.num_masks} random masks."
        )
        header = ["network", "answered by", "nats", "seconds", "times the first"]
        header += [f"covered by {share:.0%}" for share in INTERVALS]
        return StudyOutcome(header, self._rows(uses), notes, device_of(trained.values()), shown)

    def _masked(self, use: UseContext, mask: str) -> MaskedImages:
        return MaskedImages(use, ~missing_pixels(mask, use.images), self.num_particles, 0)

    def _rows(self, uses: Mapping[str, UseContext]) -> list[list[str]]:
        rows: list[list[str]] = []
        least = 0.0
        for title, use in uses.items():
            masked, images = self._masked(use, self.masks[0]), use.rows("test", self.num_rows)
            places = self._places(use)
            inside = [((places - 0.5).abs() <= share / 2).double() for share in INTERVALS]
            ways = {"itself": (masked.nats, [with_error(one) for one in inside])}
            if title == [*uses][-1]:
                ways["particle filter"] = (masked.estimated_nats, ["-" for _ in inside])
            for way, (score, covered) in ways.items():
                seconds = seconds_of(lambda: score(images), use.model.device)  # noqa: B023
                least = least or seconds
                cells = [with_error(score(images)), f"{seconds:.3g}", f"{seconds / least:.3g}"]
                rows.append([title, way, *cells, *covered])
        return rows

    def _places(self, use: UseContext) -> Tensor:
        """Return where white pixels are among draws given a random rest, uniform if calibrated."""
        generator, count, places = use.generator(0), self.num_particles, []
        for observed in draw_masks(self.num_masks, use.images.size, generator):
            mask, x = observed.view(use.images.shape), use.model.sample(SIMULATED, None, generator)
            ordered = observed_first(use.model, mask)
            assert ordered is not None
            drawn = ordered.impute(x.repeat_interleave(count, 0), mask, generator=generator)
            white = drawn.flatten(1)[:, ~observed].sum(1).view(SIMULATED, count)
            own = x.flatten(1)[:, ~observed].sum(1, keepdim=True)
            coin = torch.rand(SIMULATED, generator=generator, device=x.device)
            less, same = (white < own).sum(1), (white == own).sum(1)
            places.append(((less + coin * (same + 1)) / (count + 1)).cpu())
        return torch.cat(places)

    def _steps(self, uses: Mapping[str, UseContext]) -> Figure:
        """Plot the nats that fewer steps lose, predicted and measured, and seconds of drawing."""
        figure = pictures.new_figure(8, 3.4)
        left, right = figure.subplots(1, 2)
        for title, use in uses.items():
            model, test = cast(AnyOrderModel, use.model), use.rows("test").x
            valid, nats, seconds = use.rows("valid", self.num_rows).x, [], []
            losses = parallel_steps.step_losses(model, valid, num_orders=self.num_orders)
            counts = [*self.steps, len(losses)]
            for count in counts:
                sizes = parallel_steps.split_steps(losses, count)
                orders = [model.member(index) for index in range(1, self.num_orders + 1)]
                fast = [parallel_steps.InSteps(order, sizes) for order in orders]
                with torch.no_grad():
                    scores = torch.stack([one.log_prob(test).mean() for one in fast])
                nats.append(-float(scores.mean()))
                seconds.append(seconds_of(lambda: fast[0].sample(DRAWN), model.device))  # noqa: B023
            predicted = parallel_steps.lost_nats(losses)
            (line,) = left.plot(range(1, len(losses) + 1), predicted, label=f"{title}, predicted")
            style = {"marker": "o", "color": line.get_color()}
            lost = [value - nats[-1] for value in nats]
            left.plot(counts, lost, linestyle="", label=f"{title}, measured", **style)
            right.plot(counts, seconds, label=title, **style)
        left.set(xlabel="steps", ylabel="nats lost", xscale="log", yscale="symlog")
        right.set(xlabel="steps", ylabel=f"seconds of {DRAWN} draws")
        left.legend(fontsize=7)
        return figure
