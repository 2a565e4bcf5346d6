"""What every kind of study is: a frozen dataclass of its settings, which runs and gives a table."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from torch import Tensor

import arcore
from arcore import events, zoo
from arcore.events import Levels, is_levels
from pipeline.cluster.devices import local_device
from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.core.records import read_object, require_known
from pipeline.data.manifest import Manifest
from pipeline.data.shard_reader import Split, read_split
from pipeline.datasets.options import expected
from pipeline.evaluation.scoring import mean_and_error
from pipeline.experiments import compose, naming
from pipeline.experiments.schema import ExperimentConfig
from pipeline.reporting import wording
from pipeline.training import driver, saved_models
from pipeline.training.resolved import resolve
from pipeline.training.training_records import TrainingRecord
from pipeline.uses.use_records import Shown

Counts = Annotated[
    list[int], expected("one integer >= 1 or more", lambda counts: min(counts, default=0) >= 1)
]
Networks = Annotated[dict[str, Any], expected("one or more", bool)]  # by title
NETWORK_KEYS = ("model", "model_overrides", "trainer")


@dataclass(frozen=True)
class StudyOutcome:
    """What came out of a study: a table of texts, what to know of it, and pictures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: str
    device: str  # where networks were trained, of the trainings
    shown: Sequence[Shown] = ()


@dataclass(frozen=True, kw_only=True)
class Study(abc.ABC):
    """A comparison that is no single training, use or search; its fields are its settings."""

    @abc.abstractmethod
    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Write pictures into a folder, and return the table.

        All networks are composed before the first is trained.
        """


@dataclass(frozen=True)
class StudyContext:
    """What a study is given: its name, its data, a device, and networks trained for it."""

    study: str
    manifest: Manifest

    @property
    def device(self) -> torch.device:
        """The cluster that ARCORE_CLUSTER names, where networks are trained too."""
        return local_device()

    @property
    def images(self) -> Levels:
        """The event of the dataset, which must be images (C, H, W) of levels."""
        event = self.manifest.event
        if not is_levels(event) or len(event.shape) != 3:
            raise UserError(f"{self.manifest.dataset}: expected images of levels, got {event}")
        return event

    def images_of_side(self, side: int) -> Levels:
        """Return the event of square images of the dataset's colours and levels."""
        described = events.to_dict(self.images) | {"shape": [self.images.shape[0], side, side]}
        return cast(Levels, events.from_dict(described))

    def split(self, name: str) -> Split:
        """Read a split."""
        return read_split(paths.shards(self.manifest.dataset), name)

    def where(self, title: str) -> str:
        """Return what errors call a network of the study's entry."""
        return f"studies.{self.study.partition(naming.SEPARATOR)[0]}.networks.{title}"

    def compose(
        self, title: str, network: object, overrides: Sequence[str] = ()
    ) -> ExperimentConfig:
        """Compose the training of a network, written as an experiment without a dataset.

        It must fit the data, and have an exact likelihood. The name of its folder in models/ has
        the overrides.
        """
        where = self.where(title)
        require(isinstance(network, Mapping), where, "a mapping", network)
        entry = dict(cast("Mapping[str, object]", network))
        require_known(entry, NETWORK_KEYS, where)
        name = naming.variant(self.study, [f"network={title}", *overrides])
        entry["dataset"] = self.manifest.dataset
        config = compose.compose(name, where, entry, overrides)
        model = str(config.model["name"])
        require(zoo.model_class(model).exact, where, "a model with an exact likelihood", model)
        resolve(config, self.manifest)
        return config

    def train(self, config: ExperimentConfig, fresh: bool = False) -> TrainingRecord:
        """Train a network; where a training was interrupted, resume it unless it is to be fresh."""
        driver.train(config, fresh=fresh)
        path = paths.model(config.name) / "training.json"
        return TrainingRecord.from_dict(read_object(path), str(path))

    def load(self, training: TrainingRecord) -> arcore.AutoregressiveModel:
        """Load a trained network onto the device, in evaluation mode."""
        return saved_models.load(training.experiment).model.to(self.device)


def device_of(trainings: Iterable[TrainingRecord]) -> str:
    """Return the name of the device that networks were trained on, or of all of them."""
    return ", ".join(dict.fromkeys(one.device for one in trainings))


def with_error(values: Tensor) -> str:
    """Return the mean of values with its standard error, as text: "81.00 ± 0.58"."""
    return wording.with_error(*mean_and_error(values.double()))
