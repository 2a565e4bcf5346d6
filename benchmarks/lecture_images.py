"""Parts of `lecture.py` about images: the structure of draws, and what simple models need."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import torch

from pipeline.core import paths
from pipeline.data import shard_reader
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import scoring
from pipeline.reporting import wording
from pipeline.training import saved_models

STRUCTURE = {
    "Gated PixelCNN": "binarized_mnist-gated_pixelcnn",
    "Diagonal BiLSTM": "binarized_mnist-diagonal_bilstm",
    "Parallel Multiscale": "binarized_mnist-parallel_multiscale",
    "NADE": "binarized_mnist-nade",
}
DRAWN_ROWS, NEAR, FAR = 2000, 3, 14
SHRINKAGES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)  # of the covariance to its diagonal


def compare_structure(folder: Path) -> None:
    """Compare draws' covariances of pixels with those of test rows, for near and far pairs."""
    chosen = {}
    for split in ("train", "test"):
        read = shard_reader.read_split(paths.shards("binarized_mnist"), split)
        rows = choose_rows(len(read), DRAWN_ROWS, 0)
        chosen[split] = torch.from_numpy(read.x[rows]).long()
    truth = _covariances(chosen["test"])
    places = torch.cartesian_prod(*map(torch.arange, chosen["test"].shape[-2:])).double()
    apart = torch.cdist(places, places)
    pairs = ((apart > 0) & (apart <= NEAR), apart >= FAR)
    drawn = {"training rows": chosen["train"]}
    for title, name in STRUCTURE.items():
        model = saved_models.load_folder(paths.results() / name).model
        generator = torch.Generator().manual_seed(0)
        parts = [model.sample(500, generator=generator) for _ in range(DRAWN_ROWS // 500)]
        drawn[title] = torch.cat(parts)
    rows = []
    for title, x in drawn.items():
        error = (_covariances(x) - truth).square()
        share = x.double().mean()
        rows.append(
            [title, f"{share:.4f}", *(f"{error[pair].mean().sqrt():.5f}" for pair in pairs)]
        )
    shares = [f"{chosen['test'].double().mean():.4f}", "", ""]
    header = [
        f"{DRAWN_ROWS:,} rows of",
        "white",
        f"pairs within {NEAR} pixels",
        f"{FAR} or more apart",
    ]
    write_csv(folder / "structure.csv", header, [["test rows", *shares], *rows])


def _covariances(x: torch.Tensor) -> torch.Tensor:
    return torch.cov(x.flatten(1).double().T)


def score_simple(folder: Path, dataset: str = "cifar10_4k") -> dict[str, Any]:
    """Score test images by uniform levels, each colour's histogram, and a multivariate Gaussian.

    The Gaussian is of levels with uniform noise in [0, 1), whose density bounds the levels' own
    probability in the mean; its covariance is shrunk towards its diagonal as validation rows say.

    Returns:
        what its record says beside.
    """
    images = {
        split: torch.from_numpy(shard_reader.read_split(paths.shards(dataset), split).x).long()
        for split in ("train", "valid", "test")
    }
    colours, size = images["test"].shape[1], images["test"][0].numel()
    histogram = torch.stack([
        torch.bincount(images["train"][:, colour].flatten(), minlength=256) + 1.0
        for colour in range(colours)
    ])  # fmt: skip
    log_share = (histogram / histogram.sum(1, keepdim=True)).double().log()
    by_histogram = -sum(
        log_share[c][images["test"][:, c]].flatten(1).sum(1) for c in range(colours)
    )
    per_dim = size * math.log(2)
    torch.manual_seed(0)
    noisy = {split: x.flatten(1) + torch.rand(len(x), size).double() for split, x in images.items()}
    mean, covariance = noisy["train"].mean(0), torch.cov(noisy["train"].T)
    diagonal, best = covariance.diagonal().diag(), (float("inf"), torch.empty(0), 0.0)
    for shrinkage in SHRINKAGES:
        factor = torch.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * diagonal)
        normal = torch.distributions.MultivariateNormal(mean, scale_tril=factor)
        valid = -normal.log_prob(noisy["valid"]).mean().item()
        if valid < best[0]:
            best = valid, -normal.log_prob(noisy["test"]), shrinkage
    rows = [["uniform levels", "8"]]
    for label, sign, nats in (
        ("each colour's histogram", "", by_histogram),
        ("multivariate Gaussian", "<= ", best[1]),
    ):
        value, error = (one / per_dim for one in scoring.mean_and_error(nats))
        rows.append([label, sign + wording.with_error(value, error)])
    write_csv(folder / "simple.csv", [f"on {dataset}", "bits/dim"], rows)
    return {"dataset": dataset, "shrinkage": best[2]}


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    """Write a table with a header."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
