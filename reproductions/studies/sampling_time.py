"""Time of drawing images over their size: O(log N) evaluations of a network against O(N)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.artifacts.origin import device_name
from pipeline.core.errors import require
from pipeline.training.resolved import create_model
from pipeline.uses import pictures
from pipeline.uses.use_records import Shown
from reproductions.studies.study_context import StudyContext
from reproductions.studies.study_records import StudyOutcome
from reproductions.studies.timing import check_models, check_sizes, seconds_of

FILE = "sampling_time.png"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the time of sampling.

    Arguments:
        models: names, of networks of their default sizes.
        sizes: sides of the images, in pixels.
        num_samples: drawn at once.
        most_evaluations: images that need more of them are left out.
    """

    models: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    num_samples: int = 4
    most_evaluations: int = 65_536

    def __post_init__(self) -> None:
        check_models(self.models)
        check_sizes(self.sizes)
        require(self.num_samples >= 1, "num_samples", "an integer >= 1", self.num_samples)
        most = self.most_evaluations
        require(most >= 1, "most_evaluations", "an integer >= 1", most)


def run(place: StudyContext, settings: Settings, folder: Path) -> StudyOutcome:
    """Time draws of untrained networks, as a table and as a plot."""
    rows, lines = [], {}
    for name in settings.models:
        points = []
        for side in settings.sizes:
            event = place.images_of_side(side)
            model = create_model({"name": name}, event).to(place.device).eval()
            evaluations = model.num_evaluations or len(model.schedule)
            if evaluations > settings.most_evaluations:
                continue
            seconds = seconds_of(lambda: model.sample(settings.num_samples), place.device)  # noqa: B023
            rows.append([name, f"{side} x {side}", str(evaluations), f"{seconds:.3g}"])
            points.append((event.size, evaluations, seconds))
        lines[name] = points
    titles = ("evaluations of the network", f"seconds for {settings.num_samples}")
    pictures.save(_figure(lines, titles), folder / FILE)
    notes = (
        "Untrained networks of their default sizes, with their caches; the shortest of three draws "
        "or more."
    )
    return StudyOutcome(
        ["model", "image", "evaluations", titles[1]],
        rows,
        notes,
        device_name(place.device),
        [Shown(file=FILE, caption="Evaluations and seconds of drawing over an image's dimensions")],
    )


def _figure(lines: Mapping[str, Sequence[tuple[int, int, float]]], titles: Sequence[str]) -> Figure:
    """Plot evaluations and seconds over dimensions, a panel each, both on logarithmic axes."""
    figure = Figure(figsize=(8, 3.6), layout="constrained", dpi=pictures.DPI)
    for number, (axes, title) in enumerate(zip(figure.subplots(1, 2), titles, strict=True), 1):
        for name, points in lines.items():
            axes.loglog(
                [point[0] for point in points],
                [point[number] for point in points],
                marker="o",
                label=name,
            )
        axes.set(xlabel="dimensions of an image", ylabel=title)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
