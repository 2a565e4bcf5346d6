"""Which pixels a network sees: those that change what it says of the middle one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from matplotlib.figure import Figure

import arcore
from pipeline.core import provenance
from pipeline.core.errors import UserError, require
from pipeline.studies.records import Outcome
from pipeline.studies.workplace import Workplace
from pipeline.training.resolved import create_model
from pipeline.uses import pictures
from pipeline.uses.records import Shown

ROUNDING = 1e-9  # relative: another place in the batch may round otherwise
SEEN, MIDDLE = (0.05, 0.49, 0.49), (0.83, 0.45, 0.16)  # teal and orange
BATCH, IMAGES = 50, 2  # a gate may be shut for one image
FILE = "receptive_fields.png"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of receptive fields.

    Arguments:
        networks: by title, {name: model, ...hyperparameters} each; of raster order.
        side: of the images, in pixels.
    """

    networks: dict[str, Any] = field(default_factory=dict)
    side: int = 21

    def __post_init__(self) -> None:
        require(len(self.networks) >= 1, "networks", "one or more", self.networks)
        require(self.side >= 3, "side", "an integer >= 3", self.side)


def run(place: Workplace, settings: Settings, folder: Path) -> Outcome:
    """Draw what each network sees, and count the pixels."""
    event = place.images_of_side(settings.side)
    if event.num_levels != 2 or event.shape[0] != 1:
        raise UserError(f"{place.manifest.dataset}: expected binary images, got {event}")
    side, fields = settings.side, {}
    for title, network in settings.networks.items():
        where = place.where(title)
        require(isinstance(network, dict), where, "a mapping", network)
        require(isinstance(network.get("name"), str), f"{where}.name", "a model", network)
        model = create_model(network, event)
        fits = model.exact and model.condition_kind is None
        require(fits, where, "an exact, unconditional model", network)
        pixels = [block.tolist() for block in model.schedule]
        in_order = pixels == [[pixel] for pixel in range(side * side)]
        require(in_order, where, "a model that goes from pixel to pixel in raster order", network)
        fields[title] = receptive_field(model, side)
    figure = Figure(figsize=(2.6 * len(fields), 3.2), layout="constrained", dpi=pictures.DPI)
    axes = figure.subplots(1, len(fields), squeeze=False)[0]
    before = side // 2 * side + side // 2
    for axis, (title, seen) in zip(axes, fields.items(), strict=True):
        shown = torch.ones(side, side, 3)
        shown[seen] = torch.tensor(SEEN)
        shown[side // 2, side // 2] = torch.tensor(MIDDLE)
        axis.imshow(shown.numpy())
        axis.set_title(f"{title}\nsees {int(seen.sum())} of {before}", fontsize="small")
        axis.set(xticks=[], yticks=[])
    pictures.save(figure, folder / FILE)
    rows = [[title, str(int(seen.sum())), str(before)] for title, seen in fields.items()]
    notes = (
        "Weights are random, of standard deviation 0.5. A pixel (teal) is seen if to turn it over "
        "changes the logits of the middle pixel (orange), in float64: what gradients would show, "
        "but for those that are zero by chance."
    )
    caption = "Pixels that the middle one's distribution depends on"
    return Outcome(
        ["network", "pixels seen", "pixels before it"],
        rows,
        notes,
        provenance.device_name(torch.device("cpu")),
        [Shown(file=FILE, caption=caption)],
    )


@torch.no_grad()
def receptive_field(model: arcore.AutoregressiveModel, side: int) -> torch.Tensor:
    """Return where a change of a binary image changes the middle pixel's logits, (side, side) bool.

    The model's weights become random ones, since some begin at zero.
    """
    torch.manual_seed(0)
    model = model.double().eval()
    for parameter in model.parameters():
        parameter.normal_(0, 0.5)
    middle, size = side // 2, side * side
    changed = torch.zeros(side, side, dtype=torch.bool)
    for _ in range(IMAGES):
        x = torch.randint(0, 2, (1, 1, side, side))
        others = x.repeat(size, 1, 1, 1)
        others.view(size, size).diagonal().bitwise_xor_(1)
        before = _logits(model, x)[0, 0, middle, middle]
        parts = [_logits(model, part)[:, 0, middle, middle] for part in others.split(BATCH)]
        least = ROUNDING * before.abs().clamp(min=1)
        changed |= ((torch.cat(parts) - before).abs() > least).view(side, side)
    return changed


def _logits(model: arcore.AutoregressiveModel, x: torch.Tensor) -> torch.Tensor:
    return cast(torch.distributions.Bernoulli, model.conditionals(x)).logits
