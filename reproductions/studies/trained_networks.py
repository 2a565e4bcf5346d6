"""Studies that train networks: over masks, given frames, rows to learn from, and to the same nats.

Networks are given by title, as experiments without a dataset.
"""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from arcore.events import is_gray
from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.datasets.options import AtLeastOne
from pipeline.evaluation import scoring
from pipeline.evaluation.scoring import ChosenRows
from pipeline.experiments.schema import ExperimentConfig
from pipeline.training.training_records import read_history
from pipeline.uses import pictures
from reproductions.studies.study_base import (
    Counts,
    Networks,
    Study,
    StudyContext,
    StudyOutcome,
    device_of,
    with_error,
)

FILE = "train_rows.png"


@dataclass(frozen=True, kw_only=True)
class NetworkStudy(Study):
    """Networks that are trained."""

    networks: Networks


@dataclass(frozen=True, kw_only=True)
class NumMasks(NetworkStudy):
    """One network with masks of one ordering, and with one ordering each; a training for each."""

    masks: Counts

    def __post_init__(self) -> None:
        require(len(self.networks) == 1, "networks", "one", self.networks)

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Train a network for each number of masks, and score test rows by its members."""
        ((title, network),) = self.networks.items()
        configs = {}
        for own, count in itertools.product((False, True), self.masks):
            if own and count == 1:
                continue  # one mask has one ordering
            overrides = [f"model.order_agnostic={str(own).lower()}"]
            overrides += [f"{k}={count}" for k in ("model.num_masks", "trainer.validate_members")]
            configs[own, count] = context.compose(title, network, overrides)
        test, rows, trainings = context.split("test"), [], []
        for (own, count), config in configs.items():
            trainings.append(context.train(config))
            ensemble = context.load(trainings[-1]).ensemble(count)
            each = scoring.member_scores(ensemble, ChosenRows.of(test))
            orderings = "one each" if own else "the same"
            nats = (with_error(each.mean(1)), with_error(scoring.mixture(each)))
            rows.append([str(count), orderings, *nats])
        notes = (
            f"Nats of {len(test):,} test rows; masks are drawn before training, and one network "
            "has them all. Orderings that are the same: masks differ in connectivity alone. Of one "
            "of them: the mean over the members."
        )
        header = ["masks", "orderings", "one of them", "their mixture"]
        return StudyOutcome(header, rows, notes, device_of(trainings))


@dataclass(frozen=True, kw_only=True)
class ContextFrames(NetworkStudy):
    """Networks trained, and scored, after each number of given frames of clips."""

    frames: Counts

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Train each network for each number of given frames, and score test clips by all."""
        event = context.manifest.event
        if len(event.shape) != 4:
            raise UserError(f"{context.manifest.dataset}: expected clips, got {event}")
        end, most = event.extents[0], max(self.frames)
        require(most < end, "frames", f"fewer than the {end} of a clip", most)
        configs = {
            (given, title): context.compose(title, network, [f"model.context_frames={given}"])
            for given in self.frames
            for title, network in self.networks.items()
        }
        test, rows, trainings = context.split("test"), [], []
        after = {given: ChosenRows.of(test, context_frames=given) for given in self.frames}
        if is_gray(event):
            bounds = [
                with_error(scoring.entropy_scores(event, clips) / (end - given))
                for given, clips in after.items()
            ]
            rows.append(["", "entropy", *bounds])
        for (given, title), config in configs.items():
            trainings.append(context.train(config))
            model = context.load(trainings[-1])
            nats = [
                scoring.scores(model, clips) / (end - frames) for frames, clips in after.items()
            ]
            rows.append([str(given), title, *map(with_error, nats)])
        header = ["trained after", "nats/frame of"]
        header += [f"frames {given + 1} to {end}" for given in self.frames]
        notes = (
            f"Nats a frame of {len(test):,} test clips, each frame given the true ones before it, "
            "by networks that learned the frames after so many."
        )
        return StudyOutcome(header, rows, notes, device_of(trainings))


@dataclass(frozen=True, kw_only=True)
class TrainRows(NetworkStudy):
    """Networks trained on the first rows of the training set, more and more.

    `passes` are over the largest number of rows; over fewer rows there are as many more, so that
    all trainings have about the same number of steps.
    """

    rows: Counts
    passes: AtLeastOne = 1

    def __post_init__(self) -> None:
        require(len(set(self.rows)) == len(self.rows), "rows", "integers that differ", self.rows)

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Train each network on each number of rows, and score test images in bits/dim."""
        per_dim, known = context.images.size * math.log(2), context.manifest.splits["train"].rows
        most = max(self.rows)
        require(most <= known, "rows", f"at most the {known} of the training set", most)
        configs = {
            (title, count): self._config(context, title, count)
            for title in self.networks
            for count in self.rows
        }
        test, rows, trainings = context.split("test"), [], []
        lines: dict[str, list[float]] = {}
        for (title, count), config in configs.items():
            trained = context.train(config)
            model = context.load(trained)
            bits = scoring.scores(model, ChosenRows.of(test)) / per_dim
            rows.append([title, f"{count:,}", str(trained.epochs), with_error(bits)])
            lines.setdefault(title, []).append(float(bits.mean()))
            trainings.append(trained)
        notes = (
            f"Bits/dim of {len(test):,} test images, one training each, of the epoch with the "
            "lowest validation value. All have about the same number of steps."
        )
        caption = "Test bits/dim over the number of images learned from"
        shown = [pictures.show(_figure(lines, self.rows), folder / FILE, caption)]
        header = ["network", "rows learned from", "epochs", "test bits/dim"]
        return StudyOutcome(header, rows, notes, device_of(trainings), shown)

    def _config(self, context: StudyContext, title: str, count: int) -> ExperimentConfig:
        epochs = math.ceil(self.passes * max(self.rows) / count)
        overrides = [f"trainer.train_rows={count}", f"trainer.max_epochs={epochs}"]
        config = context.compose(title, self.networks[title], overrides)
        batch, stops = config.trainer.batch_size, config.trainer.patience
        require(count >= batch, "rows", f"at least a batch of {batch} each", count)
        where = f"{context.where(title)}.trainer.patience"
        require(stops is None, where, "null, so that all take as many steps", stops)
        return config


def _figure(lines: dict[str, list[float]], counts: list[int]) -> Figure:
    figure, axes = pictures.new_axes(5, 3.4)
    for title, means in lines.items():
        axes.semilogx(counts, means, marker="o", label=title)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="rows learned from", ylabel="test bits/dim")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


@dataclass(frozen=True, kw_only=True)
class Race(NetworkStudy):
    """Trainings that are timed until each is as good as the slowest one's best."""

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Train the networks from the start, and say when each was as good."""
        configs = {
            title: context.compose(title, network, ["trainer.validate_every=1"])
            for title, network in self.networks.items()
        }
        trained = {title: context.train(config, fresh=True) for title, config in configs.items()}
        histories = {
            title: paths.model(one.experiment) / "history.csv" for title, one in trained.items()
        }
        nats = {
            title: [float(row["valid_nats"]) for row in read_history(path)]
            for title, path in histories.items()
        }
        goal, rows = max(map(min, nats.values())), []
        for title, one in trained.items():
            ends = [0.0, *one.epoch_seconds]
            seconds = min(after - before for before, after in itertools.pairwise(ends))
            epochs = next(number for number, value in enumerate(nats[title], 1) if value <= goal)
            cells = [f"{one.num_parameters:,}", f"{min(nats[title]):.2f}", f"{seconds:.2f}"]
            rows.append([title, *cells, str(epochs), f"{epochs * seconds:.3g}"])
        notes = (
            "One training each; an epoch counts as the shortest of its training, validation apart."
        )
        header = ["network", "weights", "best validation nats", "s an epoch"]
        header += [f"epochs to {goal:.2f}", "s to that"]
        return StudyOutcome(header, rows, notes, device_of(trained.values()))
