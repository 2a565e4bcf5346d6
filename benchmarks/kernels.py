"""Kernels that a decoder's step launches, counted from outside as operations of torch.

An operation counts unless it makes a view or an empty tensor. On an accelerator each is a launch
of some microseconds, which bounds how fast small networks draw.

    python benchmarks/kernels.py [--batch 4] [--json FILE]
"""

import json
from typing import Any

import measuring
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import arcore
from arcore.events import Binary, Event, Levels

STEPS = 9  # which are taken before: the first row of an image, and its first column
IMAGE = Binary((1, 8, 8))
MODELS: dict[str, tuple[Event, dict[str, Any]]] = {
    "wavenet": (Levels(8, (40,)), {"num_blocks": 3, "cycle": 10}),
    "gated_pixelcnn": (IMAGE, {"num_layers": 10}),
    "pixelcnn": (IMAGE, {"num_blocks": 15}),
    "video_pixel_network": (Binary((3, 1, 8, 8)), {}),
    "diagonal_bilstm": (IMAGE, {}),
    "made": (IMAGE, {}),
}


class Kernels(TorchDispatchMode):
    """Counts operations that compute more than views or types."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        aliases = [returned.alias_info for returned in function._schema.returns]
        views = any(alias is not None and not alias.is_write for alias in aliases)
        self.count += not views and not any(
            what in str(function) for what in ("empty", "promote_types")
        )
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def of_a_step(model: arcore.AutoregressiveModel, batch: int) -> int:
    """Return the kernels of drawing a block and taking it in, once a decoder is under way."""
    decoder = model.eval().decoder(batch)
    for _ in range(STEPS):
        decoder.push(decoder.draw(None))
    with Kernels() as kernels:
        decoder.push(decoder.draw(None))
    return kernels.count


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    measuring.table_head("model", "kernels")
    found = {}
    for name, (event, given) in MODELS.items():
        found[name] = of_a_step(arcore.create_model(name, event, **given), arguments.batch)
        print(f"| {name} | {found[name]} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
