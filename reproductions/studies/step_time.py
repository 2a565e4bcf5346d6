"""Time of a training step over the size of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipeline.artifacts.origin import device_name
from pipeline.core.errors import require
from pipeline.training.resolved import create_model
from reproductions.studies.study_context import StudyContext
from reproductions.studies.study_records import StudyOutcome
from reproductions.studies.timing import check_models, check_sizes, seconds_of


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the time of a step.

    Arguments:
        models: names, of networks of their default sizes.
        sizes: sides of the images, in pixels.
        batch_size: images of a step.
    """

    models: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    batch_size: int = 4

    def __post_init__(self) -> None:
        check_models(self.models)
        check_sizes(self.sizes)
        require(self.batch_size >= 1, "batch_size", "an integer >= 1", self.batch_size)


def run(place: StudyContext, settings: Settings, folder: Path) -> StudyOutcome:
    """Time the loss and its gradients, in float32."""
    rows = []
    for name in settings.models:
        cells = []
        for side in settings.sizes:
            event = place.images_of_side(side)
            model = create_model({"name": name}, event).to(place.device)
            shape = (settings.batch_size, *event.extents)
            x = torch.randint(0, event.num_levels, shape, device=place.device)
            step = lambda: model(x).mean().backward()  # noqa: B023, E731
            cells.append(f"{1000 * seconds_of(step, place.device):.3g}")
        rows.append([name, *cells])
    notes = (
        f"Loss and gradients of {settings.batch_size} images in float32, networks of their default "
        "sizes; the shortest of three steps or more."
    )
    header = ["ms a step", *(f"{side} x {side}" for side in settings.sizes)]
    return StudyOutcome(header, rows, notes, device_name(place.device))
