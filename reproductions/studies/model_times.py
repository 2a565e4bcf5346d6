"""Time of drawing images and of training steps over the size of images."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from matplotlib.figure import Figure

import arcore
from arcore import zoo
from arcore.events import Levels
from pipeline.artifacts import origin
from pipeline.core.errors import unknown_name
from pipeline.datasets.options import AtLeastOne, expected
from pipeline.training.resolved import create_model
from pipeline.uses import pictures
from reproductions.studies.study_base import Counts, Study, StudyContext, StudyOutcome

FILE = "sampling_time.png"


@dataclass(frozen=True, kw_only=True)
class TimedModels(Study):
    """Untrained networks of their default sizes."""

    models: Annotated[list[str], expected("one name or more", bool)]
    sizes: Counts

    def __post_init__(self) -> None:
        for name in self.models:
            if name not in zoo.list_models():
                raise unknown_name("model", name, zoo.list_models())

    def networks(
        self, name: str, context: StudyContext
    ) -> Iterator[tuple[Levels, arcore.AutoregressiveModel]]:
        """Yield a network for each size, and its images."""
        for side in self.sizes:
            event = context.images_of_side(side)
            yield event, create_model({"name": name}, event).to(context.device)


@dataclass(frozen=True, kw_only=True)
class SamplingTime(TimedModels):
    """Time of drawing images: O(log N) evaluations of a network against O(N)."""

    num_samples: AtLeastOne = 4
    most_evaluations: AtLeastOne = 65_536

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Time draws, as a table and as a plot."""
        rows, lines = [], {}
        for name in self.models:
            points = []
            for event, model in self.networks(name, context):
                evaluations = model.eval().num_evaluations or len(model.schedule)
                if evaluations > self.most_evaluations:
                    continue
                draw = lambda: model.sample(self.num_samples)  # noqa: B023, E731
                seconds = seconds_of(draw, context.device)
                side = event.extents[-1]
                rows.append([name, f"{side} x {side}", str(evaluations), f"{seconds:.3g}"])
                points.append((event.size, evaluations, seconds))
            lines[name] = points
        titles = ("evaluations of the network", f"seconds for {self.num_samples}")
        notes = (
            "Untrained networks of their default sizes, with their caches; the shortest of three "
            "draws or more."
        )
        caption = "Evaluations and seconds of drawing over an image's dimensions"
        shown = [pictures.show(_figure(lines, titles), folder / FILE, caption)]
        return StudyOutcome(
            ["model", "image", "evaluations", titles[1]],
            rows,
            notes,
            origin.device_name(context.device),
            shown,
        )


def _figure(lines: Mapping[str, Sequence[tuple[int, int, float]]], titles: Sequence[str]) -> Figure:
    """Plot evaluations and seconds over dimensions, a panel each, both on logarithmic axes."""
    figure = pictures.new_figure(8, 3.6)
    for number, (axes, title) in enumerate(zip(figure.subplots(1, 2), titles, strict=True), 1):
        for name, points in lines.items():
            x, y = [point[0] for point in points], [point[number] for point in points]
            axes.loglog(x, y, marker="o", label=name)
        axes.set(xlabel="dimensions of an image", ylabel=title)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


@dataclass(frozen=True, kw_only=True)
class StepTime(TimedModels):
    """Time of a training step."""

    batch_size: AtLeastOne = 4

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Time the loss and its gradients, in float32."""
        rows = [[name, *self._cells(name, context)] for name in self.models]
        notes = (
            f"Loss and gradients of {self.batch_size} images in float32, networks of their default "
            "sizes; the shortest of three steps or more."
        )
        header = ["ms a step", *(f"{side} x {side}" for side in self.sizes)]
        return StudyOutcome(header, rows, notes, origin.device_name(context.device))

    def _cells(self, name: str, context: StudyContext) -> Iterator[str]:
        for event, model in self.networks(name, context):
            shape = (self.batch_size, *event.extents)
            x = torch.randint(0, event.num_levels, shape, device=context.device)
            step = lambda: model(x).mean().backward()  # noqa: B023, E731
            yield f"{1000 * seconds_of(step, context.device):.3g}"


def seconds_of(action: Callable[[], object], device: torch.device, least: float = 1.0) -> float:
    """Return the shortest of three or more runs, after one that is not counted."""
    runs: list[float] = []
    _timed(action, device)
    while len(runs) < 3 or sum(runs) < least:
        runs.append(_timed(action, device))
    return min(runs)


def _timed(action: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
