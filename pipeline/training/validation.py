"""The validation loss of a model: what early stopping and the choice of weights watch."""

from __future__ import annotations

import torch
from torch import Tensor

import arcore
from pipeline.data.batches import BatchLoader
from pipeline.experiments.schema import TrainerConfig

ROWS = 500  # at once, at most
DIMENSIONS = 1 << 21  # at once, since clips are large


@torch.no_grad()
def summed_loss(
    model: arcore.AutoregressiveModel, loader: BatchLoader, trainer: TrainerConfig
) -> Tensor:
    """Sum the validation loss over this worker's rows, () float64, in nats.

    Arguments:
        model: in evaluation mode.
        loader: of the validation split.
        trainer: whose `validate_members` says of how many masks or orderings.
    """
    scorer = _scorer(model, trainer.validate_members)
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    is_open = model.event.is_open
    rows = ROWS if is_open else min(ROWS, max(1, DIMENSIONS // model.event.size))
    for batch in loader.sequential(rows):
        batch = batch.to(model.device)
        loss = scorer.validation_loss(batch.x, batch.condition, batch.scored)
        total += loss.double().sum()
    return total


def _scorer(
    model: arcore.AutoregressiveModel, validate_members: int | None
) -> arcore.AutoregressiveModel:
    """Return the model, or the mixture of its members; exactly where None asks for it."""
    members = validate_members or model.num_members
    exactly = validate_members is None and model.validation_is_estimate
    return model.ensemble(members) if members > 1 or exactly else model
