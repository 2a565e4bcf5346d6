"""Which pixels a network sees: by turning each over, and by gradients, which say how much too."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Bernoulli

from arcore.families.raster import RasterModel
from pipeline.artifacts import origin
from pipeline.core.errors import UserError, require
from pipeline.datasets.options import expected
from pipeline.training.resolved import create_model
from pipeline.uses import pictures
from reproductions.studies.study_base import Networks, Study, StudyContext, StudyOutcome

ROUNDING = 1e-9  # relative: another place in the batch may round otherwise
SEEN, MIDDLE = (0.05, 0.49, 0.49), (0.83, 0.45, 0.16)  # teal and orange
BATCH, IMAGES = 50, 2  # a gate may be shut for one image
DECADES = 8  # of gradients that are told apart by shade; fainter ones are drawn as faint as these
FILE = "receptive_fields.png"


@dataclass(frozen=True, kw_only=True)
class ReceptiveFields(Study):
    """Receptive fields of networks with random weights."""

    networks: Networks
    side: Annotated[int, expected("an integer >= 3", lambda side: side >= 3)] = 21

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Draw what each network sees, and count the pixels."""
        event = context.images_of_side(self.side)
        if event.num_levels != 2 or event.shape[0] != 1:
            raise UserError(f"{context.manifest.dataset}: expected binary images, got {event}")
        side, fields = self.side, {}
        for title, network in self.networks.items():
            where = context.where(title)
            require(isinstance(network, dict), where, "a mapping", network)
            require(isinstance(network.get("name"), str), f"{where}.name", "a model", network)
            model = create_model(network, event)
            in_order = isinstance(model, RasterModel) and model.ordering == "raster"
            require(
                in_order, where, "a model that goes from pixel to pixel in raster order", network
            )
            require(model.condition_kind is None, where, "an unconditional model", network)
            model = randomise(cast(RasterModel, model))
            fields[title] = turned_over(model, side), gradients(model, side)
        before = str(side // 2 * side + side // 2)
        rows = [
            [title, before, *(str(int((found > 0).sum())) for found in both)]
            for title, both in fields.items()
        ]
        notes = (
            "Weights are random, of standard deviation 0.5. Above, a pixel (teal) is seen if to "
            "turn it over changes the logits of the middle pixel (orange), in float64; below, the "
            f"size of those logits' gradient with respect to it, over {IMAGES} images, in shades "
            f"of {DECADES} powers of ten."
        )
        caption = "Pixels that the middle one's distribution depends on"
        shown = [pictures.show(_figure(fields, side), folder / FILE, caption)]
        return StudyOutcome(
            ["network", "pixels before it", "seen by turning over", "by gradient"],
            rows,
            notes,
            origin.device_name(torch.device("cpu")),
            shown,
        )


def randomise(model: RasterModel) -> RasterModel:
    """Return a model in float64 whose weights are random, since some begin at zero."""
    torch.manual_seed(0)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model


@torch.no_grad()
def turned_over(model: RasterModel, side: int) -> Tensor:
    """Return where a change of a binary image changes the middle pixel's logits, (side, side) bool.

    Nothing hides from it but a gate that is shut for every image.
    """
    middle, size = side // 2, side * side
    changed = torch.zeros(side, side, dtype=torch.bool)
    for x in _images(side):
        others = x.repeat(size, 1, 1, 1)
        others.view(size, size).diagonal().bitwise_xor_(1)
        before = _logits(model, x)[0, 0, middle, middle]
        parts = [_logits(model, part)[:, 0, middle, middle] for part in others.split(BATCH)]
        least = ROUNDING * before.abs().clamp(min=1)
        changed |= ((torch.cat(parts) - before).abs() > least).view(side, side)
    return changed


def gradients(model: RasterModel, side: int) -> Tensor:
    """Return the size of the gradient of the middle pixel's logits, (side, side) float64.

    With respect to each pixel's features, of a binary image one or two numbers.
    """
    middle, sizes = side // 2, torch.zeros(side, side, dtype=torch.float64)
    for x in _images(side):
        features = model.encode(x).requires_grad_()
        logits = model.outputs(features, None)[0, :, middle, middle]
        (slope,) = torch.autograd.grad(logits.sum(), features)
        sizes += slope[0].abs().sum(0)
    return sizes


def _images(side: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (IMAGES, 1, 1, side, side)
    return list(torch.randint(0, 2, shape, generator=generator))


def _logits(model: RasterModel, x: Tensor) -> Tensor:
    return cast(Bernoulli, model.conditionals(x)).logits


def _figure(fields: dict[str, tuple[Tensor, Tensor]], side: int) -> Figure:
    figure = pictures.new_figure(2.6 * len(fields), 5.6)
    grid = figure.subplots(2, len(fields), squeeze=False)
    draws: list[Callable[[Axes, Tensor], None]] = [_draw_seen, _draw_sizes]
    for draw, axes, found in zip(draws, grid, zip(*fields.values(), strict=True), strict=True):
        for axis, pixels in zip(axes, found, strict=True):
            draw(axis, pixels)
            axis.imshow(_middle(side))
            axis.set(xticks=[], yticks=[])
    before = side // 2 * side + side // 2
    for axis, (title, (seen, _)) in zip(grid[0], fields.items(), strict=True):
        axis.set_title(f"{title}\nsees {int(seen.sum())} of {before}", fontsize="small")
    for axis, name in zip(grid[:, 0], ("turned over", "gradient"), strict=True):
        axis.set_ylabel(name, fontsize="small")
    return figure


def _draw_seen(axis: Axes, seen: Tensor) -> None:
    shown = torch.ones(*seen.shape, 3)
    shown[seen] = torch.tensor(SEEN)
    axis.imshow(shown.numpy())


def _draw_sizes(axis: Axes, sizes: Tensor) -> None:
    largest = float(sizes.max())
    norm = LogNorm(largest * 10.0**-DECADES, largest, clip=True)
    shown = sizes.where(sizes > 0, torch.nan)  # unseen pixels stay white
    axis.imshow(shown.numpy(), norm=norm, cmap="viridis_r")


def _middle(side: int) -> Any:
    shown = torch.zeros(side, side, 4)
    shown[side // 2, side // 2] = torch.tensor([*MIDDLE, 1])
    return shown.numpy()
