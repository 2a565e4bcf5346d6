"""What models without a network need for colour images: levels, histograms, a Gaussian."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from pipeline.artifacts import origin
from pipeline.core.errors import require_seed
from pipeline.datasets.options import expected
from pipeline.evaluation.scoring import ChosenRows
from reproductions.studies.study_base import Study, StudyContext, StudyOutcome, with_error

LEAST = 1e-5  # of a shrinkage: below, covariances of few rows have no Cholesky factor
_SHARES = expected(
    f"one number in [{LEAST}, 1] or more",
    lambda given: bool(given) and all(LEAST <= one <= 1 for one in given),
)


@dataclass(frozen=True, kw_only=True)
class SimpleModels(Study):
    """Levels, histograms and a Gaussian, scored on colour images."""

    shrinkages: Annotated[list[float], _SHARES] = field(
        default_factory=lambda: [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]
    )
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed, "seed")

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Score test images by each."""
        event = context.images
        images = {}
        for name in ("train", "valid", "test"):
            split = context.split(name)
            x = ChosenRows.of(split, len(split)).events(event)
            images[name] = torch.from_numpy(x).long()
        per_dim = event.size * math.log(2)
        gaussian, shrinkage = gaussian_nats(images, self)
        rows = [
            ["uniform levels", f"{math.log2(event.num_levels):.4g}"],
            [
                "each colour's histogram",
                with_error(histogram_nats(images, event.num_levels) / per_dim),
            ],
            ["multivariate Gaussian", f"<= {with_error(gaussian / per_dim)}"],
        ]
        notes = (
            "The Gaussian is of levels with uniform noise in [0, 1), whose density bounds the "
            "levels' own probability in the mean; its covariance is shrunk by "
            f"{shrinkage:g} towards its diagonal. Histograms count each level once more than it "
            "came."
        )
        device = origin.device_name(torch.device("cpu"))
        return StudyOutcome([f"on {context.manifest.dataset}", "bits/dim"], rows, notes, device)


def histogram_nats(images: dict[str, Tensor], num_levels: int) -> Tensor:
    """Score test images by the histograms of their colours in training images, (rows,)."""
    nats = torch.zeros(len(images["test"]), dtype=torch.float64)
    for colour in range(images["test"].shape[1]):
        counts = torch.bincount(images["train"][:, colour].flatten(), minlength=num_levels) + 1.0
        log_share = (counts.double() / counts.sum()).log()
        nats -= log_share[images["test"][:, colour]].flatten(1).sum(1)
    return nats


def gaussian_nats(images: dict[str, Tensor], study: SimpleModels) -> tuple[Tensor, float]:
    """Score test images, with noise, by a Gaussian, (rows,); and the shrinkage that was chosen."""
    generator = torch.Generator().manual_seed(study.seed)
    noisy = {
        split: x.flatten(1) + torch.rand(len(x), x[0].numel(), generator=generator).double()
        for split, x in images.items()
    }
    mean, covariance = noisy["train"].mean(0), torch.cov(noisy["train"].T)
    diagonal = covariance.diagonal().diag()
    best = (math.inf, torch.empty(0), 0.0)
    for shrinkage in study.shrinkages:
        factor = torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * diagonal)
        normal = torch.distributions.MultivariateNormal(mean, scale_tril=factor)
        valid = -normal.log_prob(noisy["valid"]).mean().item()
        if valid < best[0]:
            best = valid, -normal.log_prob(noisy["test"]), shrinkage
    return best[1], best[2]
