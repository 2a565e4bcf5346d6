"""What share of the processor's own matrix-product speed a training step reaches.

The products of a step (convolutions included, masked weights too, as they are computed) are
counted as it runs, and their speed is divided by what the same core is seen to do: one large
product in float32, in turn with the step, and the faster of a large product and a large convolution
(after the steps) in float32 and in the step's own precision. (AMD's processors do a product in
float32 at half the speed of a convolution: `products.py`.) Everything else that a step does counts
as lost. NADE has no matrix products to count.

    python benchmarks/share.py [--steps 5] [--only gated_pixelcnn ...] [--json FILE]
"""

import statistics
from collections.abc import Callable
from typing import Any

import measuring
import torch
from against import ROWS, Row, make_step
from products import convolution_gflops
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

SIDE = 1024


def product_in_place(out: Any, a: Any, b: Any, *_: object, **__: object) -> int:
    """Count a (batched) product that is added to what is there, from the shapes."""
    return 2 * torch.Size(a).numel() * int(b[-1])


def product_of_rows(x: Any, weight: Any, *_: object, **__: object) -> int:
    """Count x weight', from the shapes."""
    return 2 * torch.Size(x).numel() * int(weight[0])


def convolution(x: Any, weight: Any, *_: object, out_shape: Any, **__: object) -> int:
    """Count a convolution, from the shapes."""
    return conv_flop_count(list(x), list(weight), list(out_shape))


def convolution_in_place(out: Any, x: Any, weight: Any, *_: object, **__: object) -> int:
    """Count a convolution that is added to what is there, from the shapes."""
    return convolution(x, weight, out_shape=out)


OTHERS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.addmm_: product_in_place,
    torch.ops.aten.baddbmm_: product_in_place,
}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # not where torch has no oneDNN
    OTHERS[torch.ops.mkldnn._linear_pointwise] = product_of_rows
    OTHERS[torch.ops.mkldnn._convolution_pointwise] = convolution
    OTHERS[torch.ops.mkldnn._convolution_pointwise_] = convolution_in_place


def flops(step: Callable[[], object]) -> int:
    """Return the products of a step, twice their number: of matrices and convolutions."""
    with FlopCounterMode(display=False, custom_mapping=OTHERS) as counter:
        step()
    return counter.get_total_flops()


def product_seconds(a: Tensor, b: Tensor) -> float:
    return measuring.seconds(lambda: torch.mm(a, b))


def measure(row: Row, steps: int) -> dict[str, Any]:
    """Return a step's products, its time and the speed of large products around it."""
    step = make_step(row.job(row.after))
    step()
    done = flops(step)
    dtype = torch.bfloat16 if row.after == "bfloat16" else torch.float32
    exact = torch.randn(2, SIDE, SIDE)
    own = exact.to(dtype)
    product_seconds(*own)
    times, products, own_products = [], [], []
    for _ in range(steps):
        products.append(product_seconds(*exact))
        own_products.append(product_seconds(*own))
        times.append(measuring.seconds(step))
    taken = statistics.median(times)
    count = 2.0 * SIDE**3
    product = count / statistics.median(products)
    fastest = [
        max(count / statistics.median(seconds), 1e9 * convolution_gflops(count, kind))
        for seconds, kind in ((products, torch.float32), (own_products, dtype))
    ]
    speeds = [product, *fastest]
    return {
        "name": row.name,
        "precision": row.after,
        "gflop": done / 1e9,
        "ms": 1e3 * taken,
        "gflops": done / taken / 1e9,
        "product_gflops": [speed / 1e9 for speed in speeds],
        "share": [done / taken / speed for speed in speeds],
    }


def line(row: dict[str, Any]) -> str:
    """Return a line of the table."""
    shares = " | ".join(f"{share:.2f}" for share in row["share"])
    numbers = f"{row['gflop']:.1f} | {row['ms']:.1f} | {row['gflops']:.0f} | {shares}"
    return f"| {row['name']} | {row['precision']} | {numbers} |"


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--steps", type=int, default=5)
    trained = [row for row in ROWS if not row.sampling and row.model != "nade"]
    parser.add_argument("--only", nargs="+", choices=[row.name for row in trained])
    arguments = parser.parse_args()
    measuring.prepare()
    columns = ("precision", "GFLOP", "ms", "GFLOP/s", "of a product", "of float32", "of its own")
    measuring.table_head("", *columns)
    rows = []
    for row in trained:
        if not arguments.only or row.name in arguments.only:
            rows.append(measure(row, arguments.steps))
            print(line(rows[-1]), flush=True)
    measuring.write(arguments.json, {"rows": rows})


if __name__ == "__main__":
    main()
