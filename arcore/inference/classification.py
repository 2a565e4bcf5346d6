"""Classes of events by Bayes' rule, from a class-conditional model."""

import math

import torch
from torch import Tensor

from arcore.conditions import Classes
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require, require_int


@torch.no_grad()
def class_log_likelihoods(model: AutoregressiveModel, x: Tensor) -> Tensor:
    """Return ln p(x | c) for every class c of a conditional model, (batch, classes), in nats.

    Example:
        >>> import arcore
        >>> model = arcore.create_model("nade", arcore.events.Binary((4,)), num_classes=3)
        >>> class_log_likelihoods(model, torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """
    classes = model.num_classes
    fits = classes is not None and isinstance(model.condition_kind, Classes)
    require(fits, "model", "one given a class and nothing else", model.condition_kind)
    assert classes is not None
    labels = torch.arange(classes, device=model.device)
    scored = [model.log_prob(x, label.expand(len(x))) for label in labels]
    return torch.stack(scored, 1)


def class_posterior(log_likelihoods: Tensor, prior: Tensor | None = None) -> Tensor:
    """Return ln p(c | x) by Bayes' rule, (batch, classes).

        p(c | x) = p(x | c) p(c) / sum_c' p(x | c') p(c'),

    from ln p(x | c), as `class_log_likelihoods` returns, and p(c), (classes,); None is uniform.

    Example:
        >>> class_posterior(torch.tensor([[0.0, 0.0]])).exp().tolist()
        [[0.5, 0.5]]
    """
    if prior is None:
        return log_likelihoods.log_softmax(1)
    fits = prior.shape == log_likelihoods.shape[1:] and bool((prior >= 0).all())
    fits = fits and 0 < float(prior.sum()) < math.inf
    require(fits, "prior", f"{log_likelihoods.shape[1]} probabilities", prior.tolist())
    return (log_likelihoods + prior.log()).log_softmax(1)


def class_information(log_likelihoods: Tensor, labels: Tensor) -> Tensor:
    """Return ln p(x | c) - ln mean_c' p(x | c'), (batch,): what the class says of x, in nats.

    `labels` are (batch,) int64, the true classes.

    Example:
        >>> class_information(torch.tensor([[0.0, -torch.inf]]), torch.tensor([0])).exp().tolist()
        [2.0]
    """
    _require_labels(labels, log_likelihoods)
    classes = log_likelihoods.shape[1]
    mixture = log_likelihoods.logsumexp(1) - math.log(classes)
    return log_likelihoods.gather(1, labels[:, None])[:, 0] - mixture


def _require_labels(labels: Tensor, scores: Tensor) -> None:
    rows, classes = scores.shape
    fits = labels.dtype == torch.int64 and labels.shape == (rows,)
    require(fits, "labels", f"int64 of shape ({rows},)", (labels.dtype, tuple(labels.shape)))
    fits = bool(((labels >= 0) & (labels < classes)).all())
    require(fits, "labels", f"classes in [0, {classes})", labels.tolist())


def calibration_error(log_posterior: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Return the expected calibration error of the most probable class.

    Rows are put into bins of equal width by the probability of the class chosen; it is the mean
    distance between that probability and the share of right ones, over bins weighted by rows.

    Arguments:
        log_posterior: ln p(c | x), (batch, classes).
        labels: (batch,) int64.
        bins: of [0, 1].

    Reference:
        Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.

    Example:
        >>> calibration_error(torch.tensor([[0.75, 0.25]] * 4).log(), torch.tensor([0, 0, 0, 1]))
        0.0
    """
    require_int(bins, "bins", 1)
    require(len(log_posterior) > 0, "log_posterior", "a row at least", "none")
    _require_labels(labels, log_posterior)
    fits = bool((log_posterior.logsumexp(1).abs() < 0.1).all())
    require(fits, "log_posterior", "ln p, of which each row sums to 1", "others")
    confidence, chosen = log_posterior.exp().double().max(1)
    right = (chosen == labels).double()
    index = (confidence * bins).long().clamp(max=bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64, device=index.device)
    gaps = gaps.index_add(0, index, right - confidence)
    return float(gaps.abs().sum()) / len(labels)
