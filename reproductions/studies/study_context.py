"""What every study is given: its data, a device, and networks that are trained for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch

import arcore
from arcore import events, zoo
from arcore.events import Levels, is_levels
from pipeline.cluster.devices import local_device
from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.core.records import require_known
from pipeline.core.yaml_settings import read_yaml
from pipeline.data.manifest import Manifest, require_same
from pipeline.data.shard_reader import Split, read_split
from pipeline.experiments import compose, naming
from pipeline.experiments.schema import ExperimentConfig
from pipeline.training import driver, saved_models
from pipeline.training.resolved import resolve
from pipeline.training.training_records import TrainingRecord

NETWORK_KEYS = ("model", "overrides", "model_overrides", "trainer")


@dataclass(frozen=True)
class Trained:
    """A network that was trained for a study.

    Attributes:
        name: of its folder in models/.
        record: of its training.
    """

    name: str
    record: TrainingRecord

    def load(self, device: torch.device) -> arcore.AutoregressiveModel:
        """Load it onto a device, in evaluation mode."""
        return saved_models.load(self.name).model.to(device)


@dataclass(frozen=True)
class StudyContext:
    """Where a study computes.

    Attributes:
        study: its name.
        manifest: of its shards.
        commit: of the code, when it began.
    """

    study: str
    manifest: Manifest
    commit: str

    @property
    def device(self) -> torch.device:
        """That of ARCORE_CLUSTER, by which networks are trained too."""
        return local_device()

    @property
    def images(self) -> Levels:
        """The event of the dataset.

        Raises:
            UserError: unless it is one of images (C, H, W) of levels.
        """
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
        """Compose the training of a network, and check it against the data.

        Arguments:
            title: of the network in the study's entry.
            network: what the entry says: model, model_overrides, trainer, as an experiment.
            overrides: `key=value` each, which the name of the folder has.

        Raises:
            UserError: for a malformed entry, a model that does not fit the data, and one whose
                likelihood is only bounded.
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

    def train(self, config: ExperimentConfig, anew: bool = False) -> Trained:
        """Train a network, unless this very code has trained just that for a study cut short.

        Arguments:
            config: as composed.
            anew: train it in any case.

        Raises:
            UserError: as for `pipeline.training.driver.train`.
        """
        folder = paths.model(config.name)
        known = self.commit != "unknown" and not self.commit.endswith("-dirty")
        if known and not anew and (folder / "model.safetensors").is_file():
            record = TrainingRecord.of(folder)
            same = read_yaml(folder / "config.yaml") == resolve(config, self.manifest).to_dict()
            if same and record is not None and record.commit == self.commit:
                return Trained(config.name, record)
        driver.train(config, fresh=anew)
        require_same(paths.shards(self.manifest.dataset), self.manifest)
        return Trained(config.name, TrainingRecord.read(folder / "training.json"))
