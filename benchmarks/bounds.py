"""The products of a training step alone against a peer's whole step: the most that a ratio can be.

Matrix products and convolutions of our step in float32, gradients included, are recorded with
their operands and computed again, each by the fastest library call: as recorded, by oneDNN, or, of
1 x 1 convolutions, by products of matrices. The peer's step over both them and the fused update is
the ratio if all else cost nothing. Our step compiled by `torch.compile` (a C++ compiler is needed)
stands beside it. All are timed in turn; ratios are medians over the turns.

    python benchmarks/bounds.py [--threads 1] [--turns 9] [--runs 2] [--only made ...] [--json FILE]
"""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import measuring
import public
import torch
import training_speed
from measuring import Clock
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import arcore

Call = Callable[[], object]
PRODUCTS = (
    "aten.mm", "aten.addmm", "aten.addmm_", "aten.convolution", "aten.convolution_backward",
    "mkldnn._convolution_pointwise", "mkldnn._convolution_pointwise_", "mkldnn._linear_pointwise",
)  # fmt: skip
WANTED = {"pixelcnn": 1.8, "gated_pixelcnn": 1.5, "logistic": 1.2, "wavenet": 2.0}


class Products(TorchDispatchMode):
    """Keeps the products that are computed, with their operands."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, list[Any], dict[str, Any]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        if str(function).rpartition(".")[0] in PRODUCTS:
            kept = [a.detach() if isinstance(a, Tensor) else a for a in args]
            self.done.append((function, kept, kwargs or {}))
        return found


def ways(function: Any, args: list[Any], kwargs: dict[str, Any]) -> Iterator[Call]:
    """Yield calls that compute a product."""
    yield lambda: function(*args, **kwargs)
    name = str(function).rpartition(".")[0]
    if name not in ("aten.convolution", "aten.convolution_backward") or args[0].dim() != 4:
        return
    backward = name.endswith("backward")
    x, weight = args[1:3] if backward else args[:2]
    seen, flat = x.movedim(1, -1).flatten(0, 2), weight.flatten(1)
    is_pointwise = weight[0, 0].numel() == 1 and len(x) * x[0, 0].numel() == len(seen)
    if backward and is_pointwise:
        grad = args[0].movedim(1, -1).flatten(0, 2)
        asked = args[-1]
        yield lambda: (asked[0] and torch.mm(grad, flat), torch.mm(grad.t(), seen), grad.sum(0))
    elif not backward:
        bias, stride, padding = args[2:5]
        if is_pointwise and bias is not None:
            yield lambda: torch.addmm(bias, seen, flat.t())
        if torch.backends.mkldnn.is_available():
            options: tuple[Any, ...] = (padding, stride, [1, 1], 1, "none", [], "")
            yield lambda: torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *options)


@torch.no_grad()
def products_of(step: Call, clock: Clock) -> Call:
    """Return what computes the products of a step, each in the fastest way."""
    with torch.enable_grad(), Products() as products:
        step()
    chosen = []
    for product in products.done:
        timed = [
            (min(measuring.seconds(way, clock) for _ in range(4)), way) for way in ways(*product)
        ]
        chosen.append(min(timed, key=lambda pair: pair[0])[1])

    @torch.no_grad()
    def products_alone() -> None:
        for way in chosen:
            way()

    return products_alone


def update_of(model: nn.Module) -> Call:
    """Return a fused update of as many weights."""
    weights = [nn.Parameter(torch.randn_like(weight)) for weight in model.parameters()]
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    return torch.optim.AdamW(weights, fused=True).step


def rows() -> Iterator[tuple[str, str, float, Callable[[], tuple[nn.Module, nn.Module, Tensor]]]]:
    """Yield names of ours and of the peer, the ratio wanted, and what makes both and a batch."""
    size = training_speed.SIZE
    for hidden in ([500], [500, 500]):
        for peer, make in training_speed.OTHERS.items():

            def pair(hidden: list[int] = hidden, make: Any = make) -> Any:
                event = arcore.events.Binary((size,))
                ours = arcore.create_model("made", event, hidden=hidden, direct=False)
                x = (torch.rand(training_speed.BATCH, size) < 0.13).float()
                return ours, make(hidden), x

            yield "made " + "-".join(map(str, hidden)), peer, 1.2, pair
    for name, wanted in WANTED.items():
        yield name, "", wanted, lambda name=name: (*public.networks(name), public.batch(name))


def compare(make: Callable[[], Any], turns: int, clock: Clock) -> dict[str, float]:
    """Return medians of milliseconds, and of the ratios."""
    ours, theirs, x = make()
    torch.compiler.reset()
    models = ours, theirs, torch.compile(ours)
    step, other, compiled = (measuring.training_step(model, x) for model in models)  # type: ignore[arg-type]
    step(), other()
    calls = step, other, compiled, products_of(step, clock), update_of(ours)
    for call in calls:
        call()
    times = [[1e3 * measuring.seconds(call, clock) for call in calls] for _ in range(turns)]
    names = ("ours_ms", "theirs_ms", "compiled_ms", "products_ms", "update_ms")
    found = dict(zip(names, map(statistics.median, zip(*times, strict=True)), strict=True))
    found["ratio"] = statistics.median(b / a for a, b, *_ in times)
    found["compiled"] = statistics.median(b / c for _, b, c, *_ in times)
    found["bound"] = statistics.median(b / (p + u) for _, b, _, p, u in times)
    return found


def main() -> None:
    parser = measuring.parser(__doc__, threads=1)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--only", nargs="+", help="rows whose names begin so")
    arguments = parser.parse_args()
    clock = measuring.prepare(arguments.threads)
    torch.manual_seed(0)
    milliseconds = ("ours, ms", "theirs, ms", "compiled", "products", "update")
    ratios = ("theirs / ours", "theirs / compiled", "bound", "wanted")
    measuring.table_head("", "against", *milliseconds, *ratios)
    record = []
    for name, peer, wanted, make in rows():
        if arguments.only and not name.startswith(tuple(arguments.only)):
            continue
        runs = [compare(make, arguments.turns, clock) for _ in range(arguments.runs)]
        for found in runs:
            shown = " | ".join(f"{value:.2f}" for value in found.values())
            print(f"| {name} | {peer} | {shown} | >= {wanted:g} |", flush=True)
        record.append({"name": name, "other": peer, "wanted": wanted, "runs": runs})
    measuring.write(arguments.json, {"rows": record})


if __name__ == "__main__":
    main()
