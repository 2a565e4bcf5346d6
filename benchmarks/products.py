"""Products in float32 by the libraries that torch has: MKL for matrices, oneDNN for convolutions.

GFLOP/s of one thread, of the processor's seconds: of `torch.mm`, of `arcore.primitives.products`
(which takes oneDNN where it is ahead), of a convolution of 3 x 3 in NHWC order with as many
products, and of `torch.mm` in bfloat16. Sizes are (rows, inputs, outputs).

    python benchmarks/products.py [--sizes N] [--json FILE]
"""

from collections.abc import Callable

import measuring
import torch
from torch.nn.functional import conv2d

from arcore.primitives.products import has_fast_onednn, multiply

SIZES = ((100, 784, 500), (100, 500, 500), (100, 784, 8000), (1000, 500, 500), (1024, 1024, 1024))
REPEATS = 15


def gflops(step: Callable[[], object], products: float) -> float:
    """Return the speed of the median of some runs, after two that do not count."""
    return products / measuring.median_seconds(step, REPEATS, warm_up=2) / 1e9


def speeds(rows: int, inputs: int, outputs: int) -> dict[str, float]:
    """Return GFLOP/s of each way."""
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    coarse, coarse_weight = x.bfloat16(), weight.bfloat16()
    out = torch.empty(rows, outputs)
    products = 2.0 * rows * inputs * outputs
    return {
        "mm": gflops(lambda: torch.mm(x, weight.t(), out=out), products),
        "ours": gflops(lambda: multiply(x, weight.t(), out), products),
        "convolution": convolution_gflops(products),
        "mm, bfloat16": gflops(lambda: coarse @ coarse_weight.t(), products),
    }


def convolution_gflops(products: float, dtype: torch.dtype = torch.float32) -> float:
    """Return the speed of a convolution of 64 by 64 maps with about as many products."""
    side = max(8, round((products / (2 * 16 * 9 * 64 * 64)) ** 0.5))
    order = torch.channels_last
    maps = torch.randn(16, 64, side, side).to(dtype).contiguous(memory_format=order)
    weight = torch.randn(64, 64, 3, 3).to(dtype).contiguous(memory_format=order)
    with torch.no_grad():
        return gflops(lambda: conv2d(maps, weight, padding=1), 2.0 * 16 * side**2 * 9 * 64 * 64)


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="how many of them")
    arguments = parser.parse_args()
    measuring.prepare()
    print(f"{measuring.machine()}, oneDNN for products of matrices: {has_fast_onednn()}")
    rows = []
    for size in SIZES[: arguments.sizes]:
        found = speeds(*size)
        rows.append({"size": size, **found})
        print(size, "  ".join(f"{name} {v:.0f}" for name, v in found.items()), flush=True)
    measuring.write(arguments.json, {"rows": rows})


if __name__ == "__main__":
    main()
