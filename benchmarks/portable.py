"""Portable archives against plain ones: bytes, and the processor's seconds of encoding.

Rows are drawn from each kept model by a seed, so that no dataset is needed; both archives code the
same rows, in one thread, after one another.

    python benchmarks/portable.py [MODEL ...] [--rows 200] [--json FILE]
"""

import math
from pathlib import Path

import measuring
import torch

import arcore
from arcore.coding import compress, decompress

MODELS = ("nade", "deep_nade", "pixelcnn", "gated_pixelcnn")
COLUMNS = (
    "model", "rows", "-log2 p, bytes", "plain", "portable", "plain, s", "portable, s", "ratio"
)  # fmt: skip


def measure(folder: Path, count: int) -> dict[str, object]:
    """Return sizes in bytes and seconds of encoding for rows that a model draws."""
    model = arcore.load(folder).eval()
    x = model.sample(count, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ideal = -model.log_prob(x).double().sum().item() / math.log(2) / 8
    sizes, times = [], []
    for portable in (False, True):
        archive = b""

        def code(portable: bool = portable) -> None:
            nonlocal archive
            archive = compress(model, x, portable=portable, verify=False)

        times.append(measuring.seconds(code))
        sizes.append(len(archive))
    assert torch.equal(decompress(model, archive), x)
    named = {"model": folder.name, "rows": count, "ideal": round(ideal)}
    seconds = {"plain_s": times[0], "portable_s": times[1], "time": times[1] / times[0]}
    return named | {"plain": sizes[0], "portable": sizes[1]} | seconds


def main() -> None:
    parser = measuring.parser(__doc__)
    kept = [measuring.ROOT / "results" / f"binarized_mnist-{name}" for name in MODELS]
    parser.add_argument("models", nargs="*", type=Path, default=kept, help="folders of models")
    parser.add_argument("--rows", type=int, default=200)
    options = parser.parse_args()
    measuring.prepare()
    measuring.table_head(*COLUMNS)
    measured = []
    for folder in options.models:
        measured.append(row := measure(folder, options.rows))
        form = "| {model} | {rows} | {ideal:,} | {plain:,} | {portable:,} | {plain_s:.1f} | "
        form += "{portable_s:.1f} | {time:.1f} |"
        print(form.format_map(row), flush=True)
    measuring.write(options.json, {"rows": measured})


if __name__ == "__main__":
    main()
