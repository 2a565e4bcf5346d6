"""Does training in bfloat16 cost nats? The same short training in both precisions, paired.

scikit-learn's digits, binarised at half of the range (1,797 images of 8 x 8; the last 360 are the
test), which need no network. Both trainings have the same initial weights and batches; test images
are scored in float32, as the pipeline does. The difference is of each image's own two scores, so
that its standard error is that of training in another precision, not of the images.

    python benchmarks/precision.py [--epochs 20] [--only pixelcnn ...] [--json FILE]
"""

from __future__ import annotations

import math
import time
from typing import Any

import measuring
import sklearn.datasets
import torch
from torch import Tensor

import arcore

MODELS: dict[str, dict[str, Any]] = {
    "pixelcnn": {"hidden": 24, "first_kernel": 5},
    "gated_pixelcnn": {"first_kernel": 5},
    "row_lstm": {"hidden": 24},
    "diagonal_bilstm": {"hidden": 32, "num_layers": 1},
    "multiscale_pixelrnn": {"hidden": 16, "num_layers": 1, "base_num_layers": 1},
    "parallel_multiscale": {"width": 32, "num_blocks": 2, "head_width": 32},
}
TEST, BATCH = 360, 50


def digits() -> tuple[Tensor, Tensor]:
    """Return training and test images, (n, 1, 8, 8)."""
    images = torch.from_numpy(sklearn.datasets.load_digits().images >= 8)[:, None].float()
    return images[:-TEST], images[-TEST:]


def test_scores(name: str, epochs: int, coarse: bool) -> tuple[Tensor, float]:
    """Train; return the negative log-likelihood of each test image, and milliseconds per step."""
    torch.manual_seed(0)
    train, test = digits()
    model = arcore.create_model(name, arcore.events.Binary((1, 8, 8)), **MODELS[name])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05, fused=True)
    steps = epochs * (len(train) // BATCH)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    order = torch.Generator().manual_seed(0)
    began = time.process_time()
    for step in range(steps):
        position = step % (len(train) // BATCH)
        if position == 0:
            rows = torch.randperm(len(train), generator=order)
        x = train[rows[position * BATCH : (position + 1) * BATCH]]
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=coarse):
            loss = model(x).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        cosine.step()
    taken = 1e3 * (time.process_time() - began) / steps
    with torch.no_grad():
        return -model.eval().log_prob(test), taken


def compare(name: str, epochs: int) -> dict[str, Any]:
    """Return mean nats of both, and the mean and standard error of their difference."""
    (exact, slow), (coarse, fast) = (test_scores(name, epochs, c) for c in (False, True))
    difference = coarse - exact
    return {
        "name": name,
        "float32_nats": exact.mean().item(),
        "float32_error": exact.std().item() / math.sqrt(TEST),
        "bfloat16_nats": coarse.mean().item(),
        "difference": difference.mean().item(),
        "difference_error": difference.std().item() / math.sqrt(TEST),
        "float32_ms": slow,
        "bfloat16_ms": fast,
    }


def line(row: dict[str, Any]) -> str:
    """Return a line of the table."""
    nats = f"{row['float32_nats']:.2f} +- {row['float32_error']:.2f} | {row['bfloat16_nats']:.2f}"
    difference = f"{row['difference']:+.3f} +- {row['difference_error']:.3f}"
    return f"| {row['name']} | {nats} | {difference} |"


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=list(MODELS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measuring.table_head("", "float32, nats", "bfloat16, nats", "difference")
    rows = []
    for name in arguments.only or MODELS:
        rows.append(compare(name, arguments.epochs))
        print(line(rows[-1]), flush=True)
    measuring.write(arguments.json, {"epochs": arguments.epochs, "rows": rows})


if __name__ == "__main__":
    main()
