"""What a use works on: a trained model with its data."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore.events import Levels, is_levels
from arcore.inference import completion
from arcore.primitives.progress import progress_bar
from pipeline.cluster.devices import local_device
from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.core.records import value_of
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.shard_reader import ShardReader, Split
from pipeline.datasets.base import SplitData
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import scoring
from pipeline.evaluation.result_records import Result
from pipeline.evaluation.scoring import ChosenRows
from pipeline.training import saved_models

log = logging.getLogger(__name__)
PROBABILITIES_AT_ONCE = 1 << 24
EVENTS_AT_ONCE = 4_096  # of decoders, which keep maps for each


@dataclass(frozen=True)
class ModelRows:
    """Rows of a split, as a model takes them.

    Attributes:
        x: (rows, *event.shape), on the model's device.
        condition: that the model takes with them, None for an unconditional one.
    """

    numbers: np.ndarray
    x: Tensor
    condition: Tensor | None
    labels: np.ndarray | None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.x)

    def spread(self, count: int) -> ModelRows:
        """Return at most `count` rows, evenly spread."""
        return self._of(spread(len(self), count))

    def split(self, count: int) -> list[ModelRows]:
        """Return all rows in parts of at most `count`."""
        firsts = range(0, len(self), count)
        return [self._of(np.arange(first, min(first + count, len(self)))) for first in firsts]

    def _of(self, places: np.ndarray) -> ModelRows:
        condition = None if self.condition is None else self.condition[places]
        labels = None if self.labels is None else self.labels[places]
        return ModelRows(self.numbers[places], self.x[places], condition, labels)


def rows_at_once(event: Levels, particles: int = 1) -> int:
    """Return the rows that have at most 2^24 probabilities of levels and 4,096 particles in all."""
    fitting = PROBABILITIES_AT_ONCE // (event.size * event.num_levels)
    return max(1, min(fitting, EVENTS_AT_ONCE // particles))


def spread(total: int, count: int) -> np.ndarray:
    """Return at most `count` of the numbers below `total`, ascending and evenly spread.

    Test rows may be sorted by class, so that the first ones would all be alike.
    """
    return np.linspace(0, total - 1, min(count, total)).round().astype(np.int64)


@dataclass(frozen=True)
class UseContext:
    """A trained model and the data that it was trained on."""

    experiment: str
    trained: saved_models.TrainedModel
    manifest: Manifest

    @property
    def model(self) -> arcore.AutoregressiveModel:
        """The model, in evaluation mode."""
        return self.trained.model

    @property
    def exact_model(self) -> arcore.AutoregressiveModel:
        """The model; a UserError if its probabilities are only bounds."""
        if not self.model.exact:
            raise self.unfit("an exact model")
        return self.model

    @property
    def single_model(self) -> arcore.AutoregressiveModel:
        """The exact model; a UserError for a mixture, whose members have an order each."""
        if not self.model.generates:
            raise self.unfit("a single model or a pool")
        return self.exact_model

    @property
    def unconditional_model(self) -> arcore.AutoregressiveModel:
        """The model; a UserError if it takes a condition."""
        if self.model.condition_kind is not None:
            raise self.unfit("an unconditional model")
        return self.model

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.manifest.dataset

    @property
    def levels(self) -> Levels:
        """The event of the model; a UserError unless it is one of levels."""
        event = self.model.event
        if not is_levels(event):
            raise self.unfit_event("levels")
        return event

    @property
    def images(self) -> Levels:
        """The event; a UserError unless it is (C, H, W) levels of one or three colours."""
        event = self.levels
        if len(event.shape) != 3 or event.shape[0] not in (1, 3):
            raise self.unfit_event("images")
        return event

    def unfit(self, expected: str) -> UserError:
        """Build the error for a model that a use is not for."""
        return UserError(f"{self.experiment}: expected {expected}, got {self.trained.name}")

    def unfit_event(self, expected: str) -> UserError:
        """Build the error for a model of other events than a use is for."""
        event = self.model.event
        return UserError(f"{self.experiment}: expected a model of {expected}, got one of {event}")

    @property
    def progress(self) -> bool:
        """Whether a terminal shows the progress of long loops."""
        return sys.stderr.isatty()

    def nats(self, x: Tensor, labels: np.ndarray | None = None) -> Tensor:
        """Score events with the labels of their rows, -ln p(x) or its bound, (rows,) float64."""
        return scoring.scores(self.model, ChosenRows.of(SplitData(x.cpu().numpy(), labels)))

    def missing_nats(
        self, rows: ModelRows, observed: Tensor, model: arcore.AutoregressiveModel | None = None
    ) -> Tensor:
        """Return -ln p(missing | observed) of each row, (rows,) float64 on the CPU.

        `observed` is bool, of the event's shape, and first in the order of the model, or of
        another form of it.
        """
        parts = [
            -completion.log_prob_missing(model or self.model, part.x, observed, part.condition)
            for part in rows.split(rows_at_once(self.levels))
        ]
        return torch.cat(parts).double().cpu()

    def draw(
        self,
        parts: Sequence[ModelRows],
        observed: Tensor,
        count: int,
        seed: int,
        model: arcore.AutoregressiveModel | None = None,
    ) -> Tensor:
        """Draw parts of rows given what is observed, (count, rows, *event.shape) on the CPU."""
        generator, draws, drawing = self.generator(seed), [], model or self.model
        with progress_bar(self.progress, count, "draws") as advance:
            for _ in range(count):
                drawn = [drawing.impute(p.x, observed, p.condition, generator) for p in parts]
                draws.append(torch.cat(drawn).cpu())
                advance(1)
        return torch.stack(draws)

    @property
    def bound_note(self) -> str:
        """A sentence on a model that only bounds the probability, nothing on an exact one."""
        return "" if self.model.exact else " The model only bounds p; the bound is used instead."

    @property
    def condition_note(self) -> str:
        """A sentence on the condition that test images or clips come with, nothing without one."""
        if self.model.condition_kind is None:
            return ""
        kind = "class" if self.model.num_classes is not None else "condition"
        row = "image" if len(self.model.event.shape) == 3 else "clip"
        return f" The model is conditioned on the {kind} of each {row}."

    def stored(self, name: str) -> Split:
        """Open a split, to score rows of it."""
        return ShardReader(paths.shards(self.dataset), name)

    def learned_labels(self) -> np.ndarray | None:
        """Return the labels of the rows that were learned from, None without any."""
        data = self.stored("train")
        total = self._usable(len(data), "train")
        parts = np.array_split(np.arange(total), -(-total // EVENTS_AT_ONCE))
        known = [found for part in parts if (found := data[part].labels) is not None]
        return np.concatenate(known) if known else None

    def rows(self, split: str, count: int | None = None, seed: int = 0) -> ModelRows:
        """Read rows of a split: all, or a random subset that the seed names.

        Of the training split only rows that were learned from. Splits may be sorted by class, so
        that the first rows stand for nothing.
        """
        data = self.stored(split)
        numbers = choose_rows(self._usable(len(data), split), count, seed)
        batch = ChosenRows(data, numbers, len(numbers)).read(self.model)
        return ModelRows(numbers, batch.x, batch.condition, data[numbers].labels)

    def _usable(self, count: int, split: str) -> int:
        """Return how many rows, the first ones, are asked: of training rows, those learned from."""
        learned = self.trained.content.get("trainer", {}).get("train_rows")
        return learned if split == "train" and learned else count

    def generator(self, seed: int) -> torch.Generator:
        """Return a source of randomness on the model's device."""
        return torch.Generator(self.model.device).manual_seed(seed)


def trained_model(experiment: str) -> saved_models.TrainedModel:
    """Load the model of models/<experiment>, or else the one kept in results/<experiment>."""
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", experiment) is not None
    require(plain, "experiment", "a name of letters, digits, '.', '_' and '-'", experiment)
    folder = paths.usable_model(experiment)
    if folder == paths.model(experiment):
        return saved_models.load(experiment)
    log.info("%s: the weights kept in results/%s", experiment, experiment)
    Result.read(folder)  # that the weights must be those of
    return saved_models.load_folder(folder)


def load(experiment: str) -> UseContext:
    """Load a trained or kept model, with the data that it was trained on."""
    trained = trained_model(experiment)
    manifest = trained_on(trained, experiment)
    trained.model.to(local_device()).eval()
    return UseContext(experiment, trained, manifest)


def trained_on(trained: saved_models.TrainedModel, experiment: str) -> Manifest:
    """Return the manifest of the data of a training, which must be there unchanged."""
    where = f"{experiment}: config.yaml"
    described = value_of(trained.content, "dataset", dict, where)
    shards = paths.shards(value_of(described, "name", str, where))
    manifest = read_manifest(shards)
    saved_models.check_data(trained, manifest, f"{shards} for {experiment}")
    return manifest
