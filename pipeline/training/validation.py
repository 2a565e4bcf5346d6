"""The validation loss of a model: what early stopping and the choice of weights watch."""

from collections.abc import Iterable

import torch
from torch import Tensor

from arcore.events import Event, Levels
from arcore.model import AutoregressiveModel
from pipeline.data.batches import Batch
from pipeline.experiments.schema import TrainerConfig

ROWS = 500  # at once, at most
DIMENSIONS = 1 << 21  # at once, since clips are large
LOGITS = 1 << 27  # at once, of dimensions with a probability for each of many levels


@torch.no_grad()
def summed_loss(
    model: AutoregressiveModel, batches: Iterable[Batch], trainer: TrainerConfig
) -> Tensor:
    """Sum the validation loss over batches, () float64, in nats.

    It is of the model, in evaluation mode, or of the mixture of `trainer.validate_members` of its
    masks or orderings; exactly where that is None.
    """
    members = trainer.validate_members or model.num_members
    exactly = trainer.validate_members is None and model.validation_is_estimate
    scorer = model.ensemble(members) if members > 1 or exactly else model
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    for batch in batches:
        batch = batch.to(model.device)
        loss = scorer.validation_loss(batch.x, batch.condition, batch.scored)
        total += loss.double().sum()
    return total


def rows_at_once(event: Event, most: int = ROWS) -> int:
    """Return how many rows are scored at a time: `most`, or fewer of large events for their memory.

    Example:
        >>> from arcore.events import Binary, Gray, Levels
        >>> rows_at_once(Binary((1, 28, 28))), rows_at_once(Levels(256, (3, 64, 64)))
        (500, 42)
        >>> rows_at_once(Gray((20, 1, 64, 64)))  # one logit a pixel
        25
    """
    if event.is_open:
        return most
    levels = event.num_levels if type(event) is Levels else 1
    return max(1, min(most, DIMENSIONS // event.size, LOGITS // (event.size * levels)))
