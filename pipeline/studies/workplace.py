"""What every study is given: its data, a device, and networks that are trained for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from arcore import events
from arcore.events import Levels, is_levels
from pipeline.core import paths, provenance
from pipeline.core.errors import UserError, require, unknown_name
from pipeline.core.records import read_yaml
from pipeline.data.manifest import Manifest
from pipeline.data.shard_reader import read_split
from pipeline.data.stored_split import Split
from pipeline.experiments import compose, naming
from pipeline.training import driver
from pipeline.training.records import TrainingRecord
from pipeline.training.resolved import resolve

NETWORK_KEYS = tuple(key for key in compose.ENTRY_KEYS if key != "dataset")


@dataclass(frozen=True)
class Workplace:
    """Where a study computes.

    Attributes:
        study: its name.
        manifest: of its shards.
    """

    study: str
    manifest: Manifest

    @property
    def device(self) -> torch.device:
        """The accelerator where there is one."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

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

    def train(self, title: str, network: object, overrides: Sequence[str] = ()) -> Path:
        """Train a network of the study, unless this commit has trained just that.

        Arguments:
            title: of the network in the study's entry.
            network: what the entry says: model, model_overrides, trainer, as an experiment.
            overrides: `key=value` each, which the name of the folder has.

        Returns:
            The model's folder.

        Raises:
            UserError: for a malformed entry, and as for `pipeline.training.driver.train`.
        """
        where = f"studies.{self.study.partition(naming.SEPARATOR)[0]}.{title}"
        require(isinstance(network, Mapping), where, "a mapping", network)
        assert isinstance(network, Mapping)
        for key in network:
            if key not in NETWORK_KEYS:
                raise unknown_name(f"key of {where}", key, NETWORK_KEYS)
        name = naming.variant(self.study, [f"network={title}", *overrides])
        entry = {**network, "dataset": self.manifest.dataset}
        config = compose.compose(name, where, entry, overrides)
        folder, commit = paths.model(name), provenance.commit()
        if (folder / "model.safetensors").is_file() and not commit.endswith("-dirty"):
            record = TrainingRecord.of(folder)
            same = read_yaml(folder / "config.yaml") == resolve(config, self.manifest).to_dict()
            if same and record is not None and record.commit == commit:
                return folder
        return driver.train(config)
