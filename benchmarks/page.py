"""Write benchmarks/README.md and its figure from the numbers on record.

Each benchmark's `--json benchmarks/records/<name>.json` puts a record there; `earlier.json` holds
what `overheads.py` and `loading.py` printed, which have no such option.

    python benchmarks/page.py
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from scale import plot as draw_scale

FOLDER = Path(__file__).resolve().parent
RECORDS = FOLDER / "records"
Record = dict[str, Any]

HEAD = """`python benchmarks/page.py` writes this page from `benchmarks/records/`. Each benchmark is
a command that prints its table. Compare ratios within one run, because clocks of shared machines
are noisy. Runs had one thread of an AMD EPYC virtual machine with AVX512-BF16 and no GPU. Times are
the processor's. Sections that end with a commit and a processor ran on the EPYC of the next
section. The others ran on an earlier one, where large products in bfloat16 reach 217 GFLOP/s, 2.2
times the speed of float32. The column "on a Xeon" is an Intel Xeon virtual machine, from
`*_xeon.json`. Its AMX makes large products in bfloat16 6 times as fast as in float32 (1,000 and 150
GFLOP/s)."""
ON_XEON = "on a Xeon"


WANTED = {
    "NADE 500, 50% ones": 3,
    "NADE 500, draw 64": 1,
    "MADE 500": 1.2,
    "MADE 500-500": 1.2,
    "MADE 8000": 1.5,
}


def section(title: str, text: str, *tables: str) -> str:
    """Return a section: a heading, a paragraph and tables."""
    return "\n".join([f"## {title}\n", paragraph(text), *tables])


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return textwrap.fill(" ".join(text.split()), 100, break_on_hyphens=False) + "\n"


def read(name: str) -> Record:
    """Return a benchmark's record."""
    record: Record = json.loads((RECORDS / f"{name}.json").read_text())
    return record


def table(columns: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def at_least(mark: float | None) -> str:
    """Return what is wanted as a cell."""
    return "" if mark is None else f">= {mark:g}"


def missed(rows: Iterable[tuple[str, float, float | None]]) -> str:
    """Say which rows of the EPYC, of a name, a ratio and a mark or none, fall short."""
    short = [
        f"{name} ({ratio:.2f})"
        for name, ratio, mark in rows
        if mark is not None and round(ratio, 2) < mark
    ]
    if not short:
        return "On the EPYC none is short of its mark."
    return f"On the EPYC short of their marks: {'; '.join(short)}."


def measured(record: Record) -> str:
    """Say where a record's numbers are from, where it says so."""
    if "at" not in record:
        return ""
    return f"Measured at {record['at']}, {record['device']}, torch {record['torch']}."


def paired(*records: Record) -> list[tuple[Any, ...]]:
    """Put rows of records of the same things beside each other, by their names."""

    def key(row: Any) -> tuple[object, ...]:
        return row["name"], row.get("other")

    first, *others = ({key(row): row for row in record["rows"]} for record in records)
    return [(row, *(other[name] for other in others)) for name, row in first.items()]


def against(record: Record) -> str:
    there, workers = read("against_xeon"), read("against_workers")
    rows = [
        [
            row["name"], row["precision"],
            f"{row['before_ms'][1]:.1f}", f"{row['after_ms'][1]:.1f}", f"{row['ratio'][1]:.2f}",
            f"{own['ratio'][1]:.2f}", f"{other['ratio'][1]:.2f}",
            "" if row["wanted"] is None else f">= {row['wanted']}",
        ]
        for row, own, other in paired(record, workers, there)
    ]  # fmt: skip
    columns = [
        "", "precision", "before, ms", "after, ms", "before / after", "workers'", ON_XEON, "wanted",
    ]  # fmt: skip
    marks = ((row["name"], row["ratio"][1], row["wanted"]) for row in workers["rows"])
    short = missed(marks)
    short = short[0].lower() + short[1:]
    text = f"""`python benchmarks/against.py {record["commit"]}`: training steps, and draws
        (`-sample`), of that commit and of {record["checkout"]} in turn; medians. On the Xeon it was
        {there["checkout"]}. Each was one run of at most five minutes; on the Xeon row_lstm and
        parallel_multiscale once more with `--pairs 21`. Where two precisions stand, params.yaml
        has the first before and the second after. "Before" steps on the C library's allocator, as
        the ratios wanted assume; "workers'" (`--workers`, at {workers["at"]}) has the allocator
        settings of that commit's Ray workers, by which {short}"""
    return section(f"Against {record['commit']}", text, table(columns, rows))


def products(record: Record) -> str:
    ways = [name for name in record["rows"][0] if name != "size"]
    rows = [
        [" x ".join(f"{n:,}" for n in row["size"]), *(f"{row[way]:.0f}" for way in ways)]
        for row in record["rows"]
    ]
    text = """`python benchmarks/products.py` measures GFLOP/s of products of rows x inputs by
        inputs x outputs. The columns are float32 by `torch.mm` (MKL), float32 by
        `arcore/primitives/products.py` (oneDNN on AMD's processors), a convolution of 3 x 3 with as
        many products, and bfloat16 by `torch.mm`. MADE, the LSTMs' gradients of weights, orderless
        networks and WaveNet's head use ours."""
    return section(
        "Products by two libraries", text, table(["rows x inputs x outputs", *ways], rows)
    )


def precision(record: Record) -> str:
    rows = [
        [
            row["name"], f"{row['float32_nats']:.2f} +- {row['float32_error']:.2f}",
            f"{row['bfloat16_nats']:.2f}",
            f"{row['difference']:+.3f} +- {row['difference_error']:.3f}",
        ]
        for row in record["rows"]
    ]  # fmt: skip
    columns = ["", "float32, nats", "bfloat16, nats", "difference"]
    text = f"""`python benchmarks/precision.py --epochs {record["epochs"]}`: binarised digits of
        8 x 8, the same weights at the start and the same batches; differences image by image."""
    return section("Nats of training in bfloat16", text, table(columns, rows))


def denormals(record: Record) -> str:
    rows = [
        [row["name"], f"{row['loss_ms']:.1f}", f"{row['update_ms']:.1f}"] for row in record["rows"]
    ]
    columns = ["denormals", "loss and gradients, ms", "AdamW, ms"]
    text = f"""`python benchmarks/denormals.py`, on the Xeon, has a DeepNADE of 500-500 after
        {record["steps"]:,} steps on images whose border is hardly ever on. By then,
        {100 * record["share"]:.0f} % of the first moments are too small for a float's exponent.
        Trainings take such numbers as zero (`pipeline/training/denormals.py`), because Intel's
        processors compute them in microcode."""
    return section("Long trainings and denormal floats", text, table(columns, rows))


def share(record: Record) -> str:
    rows = [
        [
            row["name"], row["precision"], f"{row['gflop']:.1f}", f"{row['ms']:.1f}",
            f"{row['gflops']:.0f}", *(f"{value:.2f}" for value in row["share"]),
        ]
        for row in record["rows"]
    ]  # fmt: skip
    columns = [
        "", "precision", "GFLOP", "ms", "GFLOP/s", "of a product in float32", "of float32",
        "of its own",
    ]  # fmt: skip
    text = """`python benchmarks/share.py` measures products per second of a training step. The last
        three columns are shares of other speeds. The first is one large product in float32
        (`torch.mm` by MKL, which leaves half of AVX-512 unused on AMD's processors). The second and
        third are the fastest product or convolution seen on this core, in float32 and in the step's
        precision."""
    return section("Share of matrix-product speed", text, table(columns, rows))


def training_speed(record: Record) -> str:
    there = read("training_speed_xeon")
    rows = [
        [row["name"], row["other"], f"{row['ours_ms']:.1f}", f"{row['theirs_ms']:.1f}",
         f"{row['ratio']:.2f}", f"{other['ratio']:.2f}", at_least(WANTED.get(row["name"]))]
        for row, other in paired(record, there)
    ]  # fmt: skip
    columns = ["ours", "against", "ours, ms", "theirs, ms", "theirs / ours", ON_XEON, "wanted"]
    text = """`make bench` (`python benchmarks/training_speed.py`): training steps in float32
        against autograd loops, zuko and nflows, and NADE's draws against a bare loop."""
    marks = [
        (f"{row['name']} against {row['other']}", row["ratio"], WANTED.get(row["name"]))
        for row in record["rows"]
    ]
    bounds = f"""{missed(marks)} On AMD processors, MADE's products in float32 use oneDNN, which is
        twice as fast there as MKL, the peers' choice (`python benchmarks/products.py`). On the Xeon
        both use MKL, and all other operations cost both the same. About 1.2 is then the maximum at
        500 units. NADE's draw should be twice as fast as public code (below)."""
    return section("Against the common ways", text, table(columns, rows), paragraph(bounds))


def public(record: Record) -> str:
    there = {
        (row["name"], row["precision"]): f"{row['ratio']:.2f}"
        for row in read("public_xeon")["rows"]
    }
    rows = [
        [row["name"], row["precision"], f"{row['ours_ms']:.1f}", f"{row['theirs_ms']:.1f}",
         f"{row['ratio']:.2f}", there.get((row["name"], row["precision"]), ""),
         at_least(row["wanted"]), " / ".join(f"{x:.1f}" for x in row.get("gflop") or ())]
        for row in record["rows"]
    ]  # fmt: skip
    marks = [
        (f"{row['name']} in {row['precision']}", row["ratio"], row["wanted"])
        for row in record["rows"]
    ]
    columns = [
        "", "ours in", "ours, ms", "theirs, ms", "theirs / ours", ON_XEON, "wanted",
        "GFLOP, ours / theirs",
    ]  # fmt: skip
    text = """`python benchmarks/public.py`: training steps and draws against networks written for
        this benchmark in the style of public code (`public_style.py` says whose), theirs in
        float32. Images are drawn there by a pass of the network per pixel, WaveNet's samples by
        queues. The logistic networks have 1.5 million weights each; theirs has most layers on
        maps of a quarter and a sixteenth of the pixels, and so half the products. PixelCNN's has
        the masked taps of its kernels too, which ours leaves out. On the Xeon training steps alone
        (`--steps`)."""
    return section("Against public code", text, table(columns, rows), paragraph(missed(marks)))


def ensembles(record: Record) -> str:
    rows = [
        [one["device"].removeprefix("cpu ").strip("()"), f"{one['rows']:,}",
         f"{one['seconds']:.0f}", f"{one['gflops']:.0f}", f"{one['whole_seconds']:.0f}",
         f"<= {one['wanted']:.0f}"]
        for one in (read("ensembles_xeon"), record)
    ]  # fmt: skip
    columns = ["", "rows", "s", "GFLOP/s", "all if two cores are twice as fast, s", "wanted"]
    part = f"--rows {record['rows']} --threads {record['threads']}"
    text = f"""`python benchmarks/ensembles.py`, and `{part}`: EoNADE of binarised MNIST (500-500)
        in float32, as an evaluation scores it; all are 10,000 rows under 16 orderings, of fewer
        rows in proportion. Each ordering's first layer is a running sum; the rest is, per
        dimension, a product of rows x 500 by 500 x 500."""
    return section("Scoring an orderless ensemble", text, table(columns, rows))


def direct(record: Record) -> str:
    rows = [
        [
            row["name"], f"{row['direct_nats']:.2f}", f"{row['without_nats']:.2f}",
            f"{row['difference']:+.3f} +- {row['difference_error']:.3f}",
            f"{row['direct_ms']:.2f}", f"{row['without_ms']:.2f}",
        ]
        for row in record["rows"]
    ]  # fmt: skip
    columns = ["", "direct, nats", "without, nats", "difference", "direct, ms", "without, ms"]
    text = f"""`python benchmarks/direct.py`: binarised digits of 8 x 8, {record["seeds"]} seeds,
        best of {record["epochs"]} epochs by validation, and milliseconds per step."""
    return section("MADE's direct connections", text, table(columns, rows))


def sampling(record: Record) -> str:
    rows = [
        [row["name"], f"{row['fast_s']:.3f}", f"{row['slow_s']:.1f}", f"{row['ratio']:.0f}"]
        for row in record["rows"]
    ]
    columns = ["", "decoder, s", "full passes, s", "ratio"]
    text = """`python benchmarks/sampling.py` draws 64 binary images of 28 x 28, by each model's
        decoder and by one pass of the whole network per step (8 passes are timed)."""
    return section("Decoders against full passes", text, table(columns, rows))


def growth(record: Record) -> str:
    sizes = record["rows"][0]["sizes"]
    times = [
        [row["name"], *(f"{value:.0f}" for value in row["microseconds_per_pixel"]),
         f"{row['slope']:.2f}"]
        for row in record["rows"]
    ]  # fmt: skip
    memory = [
        [row["name"], *(f"{value:.0f}" for value in row["memory_mb"])] for row in record["rows"]
    ]
    made = record["made"]
    steps = zip(made["widths"], made["ms"], strict=True)
    widths = [[f"{width}", f"{ms:.1f}"] for width, ms in steps]
    loader = record["loader"]
    epochs = [
        [f"{rows:,}", f"{taken:.2f}", f"{grown:.0f}"]
        for rows, taken, grown in zip(
            loader["rows"], loader["seconds"], loader["memory_mb"], strict=True
        )
    ]
    sides = [f"{side} x {side}" for side in sizes]
    parts = record.get("measured", {})
    origins = " ".join(
        f"{title}: {measured(parts[key])}"
        for key, title in {"rows": "Drawing", "made": "MADE", "loader": "The loader"}.items()
        if key in parts
    )
    older = "Drawing was measured at cd1b62a2 on the EPYC of the second section, the rest earlier."
    text = f"""`python benchmarks/growth.py` measures microseconds per pixel and peak MB of drawing
        4 binary images. The slope is of log seconds over log pixels; at 1, a pixel's time does not
        depend on the size. The other tables are a training step of MADE over its width, and an
        epoch of the loader from Parquet over its rows, in windows of 16,384.
        {"" if "rows" in parts else older} {origins}"""
    return section(
        "Growth",
        text,
        "![Sampling time over pixels](growth.svg)\n",
        table(["us per pixel", *sides, "slope"], times),
        table(["MB", *sides], memory),
        table(["width", f"ms (slope of the last three: {made['slope']:.2f})"], widths),
        table(["rows", f"s per epoch (slope: {loader['slope']:.2f})", "MB more"], epochs),
    )


def scale(record: Record) -> str:
    runs = sorted(((int(rows), run) for rows, run in record["runs"].items()), key=lambda r: r[0])
    steps = (("preprocess", "stage_mb"), ("train", "worker_mb"), ("evaluate", "stage_mb"))
    cells = [
        [f"{rows:,}", f"{rows * 3072 / 2**20:,.0f}"]
        + [f"{run[step][of]:.0f}" if step in run else "-" for step, of in steps]
        + [f"{run[step]['cpu_seconds']:.0f}" if step in run else "-" for step, _ in steps]
        for rows, run in runs
    ]
    limits = {rows: run.get("run", {}).get("memory_limit_mb") for rows, run in runs}
    limited = "".join(
        f" {rows:,} rows ran at {run['run']['commit']} in a control group of {limit:,.0f} MB."
        for (rows, run), limit in zip(runs, limits.values(), strict=True)
        if limit
    )
    commits = ", ".join(sorted({run.get("run", record)["commit"] for _, run in runs}))
    most, largest = runs[-1]
    text = f"""`python benchmarks/scale.py --rows {" ".join(str(rows) for rows, _ in runs)}` ran at
        {commits}. It generates RGB images of 32 x 32 as PNG in Parquet files and preprocesses them.
        Two workers of Ray train a tiny MADE for two epochs in windows of 10,000 rows. A tenth of
        the rows is evaluated. MB are peak resident memory of the stage, or of the larger worker:
        imports and a window or a shard, not all rows. The second column is the rows' decoded size.
        Rows have two levels and a simple pattern, so that {most:,} take
        {largest["disk"]["images_mb"]:,.0f} MB as PNG and {largest["disk"]["shards_mb"]:,.0f} MB as
        shards.{limited}
        Seconds are the processor's, of all processes of a stage, on {record["hardware"]}, next to
        other work. Ray Data is not used: rows go through a process one batch at a time,
        {most / largest["preprocess"]["cpu_seconds"]:,.0f} per second here. Where decoding takes
        longer, workers decode user files as tasks, part by part (`cluster.num_workers`). A killed
        run resumes from them."""
    names = [step for step, _ in steps]
    head = ["rows", "MB of rows", *(f"{n}, MB" for n in names), *(f"{n}, s" for n in names)]
    return section(
        "A data set larger than memory",
        text,
        "![Memory and time over rows](scale.svg)\n",
        table(head, cells),
    )


def earlier(record: Record) -> str:
    rows = [[row["what"], row["measured"]] for row in record["rows"]]
    text = f"""`python benchmarks/overheads.py` and `python benchmarks/loading.py` at
        {record["commit"]}, on two cores."""
    return section("The pipeline", text, table(["", "measured"], rows))


ACCELERATOR = """## On an accelerator

`python benchmarks/accelerator.py` measures every system's training steps (both precisions, two
batches, the operations at which the host waits) and draws there. It was run on a processor to see
that it works; no accelerator was at hand, so there are no numbers.
"""


SECTIONS: dict[str, Callable[[Record], str]] = {
    "products": products,
    "against": against,
    "precision": precision,
    "share": share,
    "denormals": denormals,
    "training_speed": training_speed,
    "public": public,
    "ensembles": ensembles,
    "direct": direct,
    "sampling": sampling,
    "growth": growth,
    "scale": scale,
    "earlier": earlier,
}


def draw_growth(record: Record, path: Path) -> None:
    """Plot sampling time over pixels."""
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for row in record["rows"]:
        pixels = [side**2 for side in row["sizes"]]
        seconds = [
            1e-6 * each * number
            for each, number in zip(row["microseconds_per_pixel"], pixels, strict=True)
        ]
        axes.loglog(pixels, seconds, marker="o", label=f"{row['name']}, {row['slope']:.2f}")
    axes.set_xlabel("pixels")
    axes.set_ylabel("seconds for 4 images")
    axes.legend(title="slope")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def page(records: dict[str, Record]) -> str:
    """Return the page."""
    head = textwrap.fill(" ".join(HEAD.split()), 100)
    sections = []
    for name, record in records.items():
        told = measured(record)
        sections.append(SECTIONS[name](record) + (f"\n{paragraph(told)}" if told else ""))
    return "\n".join([f"# Benchmarks\n\n{head}\n", *sections, ACCELERATOR])


def kept() -> dict[str, Record]:
    """Return the records that there are."""
    return {name: read(name) for name in SECTIONS if (RECORDS / f"{name}.json").exists()}


def main() -> None:
    records = kept()
    draw_growth(records["growth"], FOLDER / "growth.svg")
    if "scale" in records:
        draw_scale(records["scale"], FOLDER / "scale.svg")
    (FOLDER / "README.md").write_text(page(records))


if __name__ == "__main__":
    main()
