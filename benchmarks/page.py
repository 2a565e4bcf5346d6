"""Write benchmarks/README.md from the numbers on record.

Each benchmark's `--json benchmarks/records/<name>.json` puts a record there; `earlier.json` holds
what `overheads.py` and `loading.py` printed, which have no such option, and what was measured once.

    python benchmarks/page.py
"""

import json
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

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
GFLOP/s). The two tables against other code ran there at d5ed80ce (family 6 model 167)."""
ACCELERATOR = """## On an accelerator

`python benchmarks/accelerator.py` measures every system's training steps (both precisions, two
batches, the operations at which the host waits) and draws there. It was run on a processor to see
that it works; no accelerator was at hand, so there are no numbers.
"""
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
    return textwrap.fill(" ".join(text.split()), 100, break_on_hyphens=False) + "\n"


def read(name: str) -> Record:
    record: Record = json.loads((RECORDS / f"{name}.json").read_text())
    return record


def table(rows: Iterable[Record], columns: dict[str, str]) -> str:
    """Return a Markdown table, given each column's format of a row."""
    cells = [[form.format_map(row) for form in columns.values()] for row in rows]
    lines = [list(columns), ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def compared(record: Record, other: str, by: str = "name") -> list[Record]:
    """Return rows with the ratio of the row of another record that has the same names."""
    there = {(row["name"], row[by]): row["ratio"] for row in read(other)["rows"]}
    rows = []
    for row in record["rows"]:
        ratio = there.get((row["name"], row[by]))
        wanted = row.get("wanted", WANTED.get(row["name"]))
        ratio = ratio[1] if isinstance(ratio, list) else ratio
        told = {"xeon": "" if ratio is None else f"{ratio:.2f}", "least": wanted}
        rows.append(row | told | {"mark": "" if wanted is None else f">= {wanted:g}"})
    return rows


def missed(rows: list[Record], name: str) -> str:
    """Say which rows of the EPYC, called by a format, fall short of what is wanted."""
    short = [
        f"{name.format_map(row)} ({row['ratio']:.2f})"
        for row in rows
        if row["least"] is not None and round(row["ratio"], 2) < row["least"]
    ]
    if not short:
        return "On this EPYC every target is met."
    return f"On this EPYC, below their targets: {'; '.join(short)}."


def measured(record: Record) -> str:
    """Say where a record's numbers are from, where it says so."""
    if "at" not in record:
        return ""
    return f"Measured at {record['at']}, {record['device']}, torch {record['torch']}."


def against(record: Record) -> str:
    rows = compared(record, "against_xeon")
    text = f"""`python benchmarks/against.py {record["commit"]}`: training steps, and draws
        (`-sample`), of that commit and of {record["checkout"]} in turn; medians. On the Xeon it was
        {read("against_xeon")["checkout"]}. Each was one run of at most five minutes; on the Xeon
        row_lstm and parallel_multiscale once more with `--pairs 21`. Where two precisions stand,
        params.yaml has the first before and the second after. "Before" steps on the C library's
        allocator, as the ratios wanted assume. On the allocator settings of that commit's Ray
        workers, row_lstm (1.49) and wavenet (1.28) were short of them."""
    columns = {
        "": "{name}", "precision": "{precision}",
        "before, ms": "{before_ms[1]:.1f}", "after, ms": "{after_ms[1]:.1f}",
        "before / after": "{ratio[1]:.2f}", "on a Xeon": "{xeon}", "wanted": "{mark}",
    }  # fmt: skip
    return section(f"Against {record['commit']}", text, table(rows, columns))


def products(record: Record) -> str:
    rows = [row | {"sizes": " x ".join(f"{n:,}" for n in row["size"])} for row in record["rows"]]
    ways = [name for name in record["rows"][0] if name != "size"]
    columns = {"rows x inputs x outputs": "{sizes}"} | {way: f"{{{way}:.0f}}" for way in ways}
    text = """`python benchmarks/products.py` measures GFLOP/s of products of rows x inputs by
        inputs x outputs. The columns are float32 by `torch.mm` (MKL), float32 by
        `arcore/primitives/products.py` (oneDNN on AMD's processors), a convolution of 3 x 3 with as
        many products, and bfloat16 by `torch.mm`. MADE, the LSTMs' gradients of weights, orderless
        networks and WaveNet's head use ours."""
    return section("Products by two libraries", text, table(rows, columns))


def share(record: Record) -> str:
    columns = {
        "": "{name}", "precision": "{precision}", "GFLOP": "{gflop:.1f}", "ms": "{ms:.1f}",
        "GFLOP/s": "{gflops:.0f}", "of a product in float32": "{share[0]:.2f}",
        "of float32": "{share[1]:.2f}", "of its own": "{share[2]:.2f}",
    }  # fmt: skip
    text = """`python benchmarks/share.py` measures products per second of a training step. The last
        three columns are shares of other speeds. The first is one large product in float32
        (`torch.mm` by MKL, which leaves half of AVX-512 unused on AMD's processors). The second and
        third are the fastest product or convolution seen on this core, in float32 and in the step's
        precision."""
    return section("Share of matrix-product speed", text, table(record["rows"], columns))


def training_speed(record: Record) -> str:
    rows = compared(record, "training_speed_xeon", "other")
    columns = {
        "ours": "{name}", "against": "{other}", "ours, ms": "{ours_ms:.1f}",
        "theirs, ms": "{theirs_ms:.1f}", "theirs / ours": "{ratio:.2f}", "on a Xeon": "{xeon}",
        "wanted": "{mark}",
    }  # fmt: skip
    text = """`python benchmarks/training_speed.py`, the first script of `make bench`: training
        steps in float32 against autograd loops, zuko and nflows, and NADE's draws against a bare
        loop."""
    bounds = f"""{missed(rows, "{name} against {other}")} On AMD processors, MADE's products in
        float32 use oneDNN, which is twice as fast there as MKL, the peers' choice (`python
        benchmarks/products.py`). On the Xeon both use MKL, and a small step costs both the same
        but for checks and distributions, 0.3 ms of ours. NADE's draw should be twice as fast
        as public code (below)."""
    return section("Against the common ways", text, table(rows, columns), paragraph(bounds))


def public(record: Record) -> str:
    rows = [
        row | {"both": " / ".join(f"{x:.1f}" for x in row["gflop"] or ())}
        for row in compared(record, "public_xeon", "precision")
    ]
    columns = {
        "": "{name}", "ours in": "{precision}", "ours, ms": "{ours_ms:.1f}",
        "theirs, ms": "{theirs_ms:.1f}", "theirs / ours": "{ratio:.2f}", "on a Xeon": "{xeon}",
        "wanted": "{mark}", "GFLOP, ours / theirs": "{both}",
    }  # fmt: skip
    text = """`python benchmarks/public.py`: training steps and draws against networks written for
        this benchmark in the style of public code (`public_style.py` says whose), theirs in
        float32. Images are drawn there by a pass of the network per pixel, WaveNet's samples by
        queues. The logistic networks have 1.5 million weights each; theirs has most layers on
        maps of a quarter and a sixteenth of the pixels, and so half the products. PixelCNN's has
        the masked taps of its kernels too, which ours leaves out. On the Xeon training steps alone
        (`--steps`)."""
    short = paragraph(missed(rows, "{name} in {precision}"))
    return section("Against code in the style of public code", text, table(rows, columns), short)


def sampling(record: Record) -> str:
    columns = {
        "": "{name}", "decoder, s": "{fast_s:.3f}", "full passes, s": "{slow_s:.1f}",
        "ratio": "{ratio:.0f}",
    }  # fmt: skip
    text = """`python benchmarks/sampling.py` draws 64 binary images of 28 x 28, by each model's
        decoder and by one pass of the whole network per step (8 passes are timed)."""
    return section("Decoders against full passes", text, table(record["rows"], columns))


def portable(record: Record) -> str:
    columns = {
        "": "{model}", "rows": "{rows}", "-log2 p, bytes": "{ideal:,}", "plain": "{plain:,}",
        "portable": "{portable:,}", "encoding, s": "{plain_s:.1f}",
        "portable, s": "{portable_s:.1f}", "ratio": "{time:.1f}",
    }  # fmt: skip
    text = """`python benchmarks/portable.py` codes rows that each kept model draws, plainly and by
        `portable=True`, which any processor decodes."""
    return section("Portable archives", text, table(record["rows"], columns))


def growth(record: Record) -> str:
    made, loader, rows = record["made"], record["loader"], record["rows"]
    sides = [f"{side} x {side}" for side in rows[0]["sizes"]]
    each, memory = (
        {side: f"{{{key}[{index}]:.0f}}" for index, side in enumerate(sides)}
        for key in ("microseconds_per_pixel", "memory_mb")
    )
    steps, epochs = (
        [dict(zip(part, values, strict=False)) for values in zip(*part.values(), strict=True)]
        for part in (
            {"width": made["widths"], "ms": made["ms"]},
            {key: loader[key] for key in ("rows", "seconds", "memory_mb")},
        )
    )
    text = """`python benchmarks/growth.py` measures microseconds per pixel and peak MB of drawing
        4 binary images. The slope is of log seconds over log pixels; at 1, a pixel's time does not
        depend on the size. The other tables are a training step of MADE over its width, and an
        epoch of the loader from Parquet over its rows, in windows of 16,384. Drawing was measured
        at cd1b62a2 on the EPYC of the second section, the rest earlier."""
    last = f"ms (slope of the last three: {made['slope']:.2f})"
    epoch = f"s per epoch (slope: {loader['slope']:.2f})"
    return section(
        "Growth",
        text,
        table(rows, {"us per pixel": "{name}", **each, "slope": "{slope:.2f}"}),
        table(rows, {"MB": "{name}", **memory}),
        table(steps, {"width": "{width}", last: "{ms:.1f}"}),
        table(epochs, {"rows": "{rows:,}", epoch: "{seconds:.2f}", "MB more": "{memory_mb:.0f}"}),
    )


def scale(record: Record) -> str:
    runs = sorted(((int(rows), run) for rows, run in record["runs"].items()), key=lambda r: r[0])
    rows = [run | {"rows": count, "decoded": count * 3072 / 2**20} for count, run in runs]
    most, largest = runs[-1]
    text = f"""`python benchmarks/scale.py --rows {" ".join(str(count) for count, _ in runs)}` ran
        at b853a2e, the largest at eab6bcb in a control group of 4,096 MB. It generates RGB images
        of 32 x 32 as PNG in Parquet files and preprocesses them. Two workers of Ray train a tiny
        MADE for two epochs in windows of 10,000 rows. A tenth of the rows is evaluated. MB are peak
        resident memory of the stage, or of the larger worker: imports and a window or a shard, not
        all rows. The second column is the rows' decoded size. Rows have two levels and a simple
        pattern, so that {most:,} take {largest["disk"]["images_mb"]:,.0f} MB as PNG and
        {largest["disk"]["shards_mb"]:,.0f} MB as shards. Seconds are the processor's, of all
        processes of a stage, on {record["hardware"]}, next to other work. Ray Data is not used:
        rows go through a process one batch at a time,
        {most / largest["preprocess"]["cpu_seconds"]:,.0f} per second here. Where decoding takes
        longer, workers decode user files as tasks, part by part (`cluster.num_workers`)."""
    steps = {"preprocess": "stage_mb", "train": "worker_mb", "evaluate": "stage_mb"}
    columns = {"rows": "{rows:,}", "MB of rows": "{decoded:,.0f}"}
    columns |= {f"{step}, MB": f"{{{step}[{of}]:.0f}}" for step, of in steps.items()}
    columns |= {f"{step}, s": f"{{{step}[cpu_seconds]:.0f}}" for step in steps}
    return section("A data set larger than memory", text, table(rows, columns))


def earlier(record: Record) -> str:
    text = f"""`python benchmarks/overheads.py` and `python benchmarks/loading.py` at
        {record["commit"]}, on two cores."""
    columns = {"": "{what}", "measured": "{measured}"}
    once = section("Measured once", record["once_text"], table(record["once"], columns))
    return section("The pipeline", text, table(record["rows"], columns)) + "\n" + once


def quiet(record: Record) -> str:
    text = f"""Both tables were measured on two cores of an Intel Xeon (family 6 model 207) without
        AMX, with nothing else to do. Its clocks still changed by up to 1.8 within a minute. The
        first is of `python benchmarks/public.py --steps`, run twice. The second is of `python
        benchmarks/against.py {record["commit"]} --precision float32`: ratios of the minima, and
        medians of the pairs' ratios. Each row had 5 pairs; rows below 0.97 then ran again with 15.
        Products in bfloat16 are slower than in float32 there (65 and 104 GFLOP/s). README's loop
        takes 1.5 times as long for MADE 500 if Adam is not fused."""
    steps = {
        "": "{name}", "ours in": "{precision}", "ours, ms": "{ours_ms:.1f}",
        "theirs, ms": "{theirs_ms:.1f}", "theirs / ours": "{ratio:.2f}, {again:.2f}",
        "wanted": ">= {wanted:g}",
    }  # fmt: skip
    commits = {
        "": "{name}", "before, ms": "{before_ms[1]:.1f}", "after, ms": "{after_ms[1]:.1f}",
        "of the minima": "{ratio[0]:.2f}", "before / after": "{ratio[1]:.2f}",
    }  # fmt: skip
    tables = table(record["public"], steps), table(record["against"], commits)
    return section("On a quiet Xeon without AMX", text, *tables)


def bounds(record: Record) -> str:
    columns = {
        "": "{name}", "against": "{other}", "ours, ms": "{runs[0][ours_ms]:.1f}",
        "theirs, ms": "{runs[0][theirs_ms]:.1f}", "compiled": "{runs[0][compiled_ms]:.1f}",
        "products": "{runs[0][products_ms]:.1f}", "update": "{runs[0][update_ms]:.1f}",
        "theirs / ours": "{runs[0][ratio]:.2f}, {runs[1][ratio]:.2f}",
        "theirs / compiled": "{runs[0][compiled]:.2f}, {runs[1][compiled]:.2f}",
        "bound": "{runs[0][bound]:.2f}, {runs[1][bound]:.2f}", "wanted": ">= {wanted:g}",
    }  # fmt: skip
    text = """`python benchmarks/bounds.py` computes the products of our float32 step alone, each by
        the fastest library call. The bound is the peer's step over products and update: the ratio
        if all else cost nothing. "Compiled" is our step by `torch.compile`, which needs a C++
        compiler. It ran on two quiet cores of an Intel Xeon (family 6 model 167) with AMX. Each
        ratio has two runs; milliseconds are of the first."""
    told = """gated_pixelcnn reaches its target. Compiled, MADE reaches its own against zuko
        and is ahead of the others. Against nflows, the target leaves MADE 500 0.7 ms for all
        else, which takes 1.9 ms. Groups of rows save products there, but more calls take as
        much. The target leaves PixelCNN 22 ms for passes over memory, which take 65 ms; a
        compiler's take more. The logistic network's target is beyond its bound. A compiled
        WaveNet is no faster. `trainer.compile` compiles a training of the pipeline. Direct
        connections of MADE cost 1.31 to 1.48 of a step without (at 0d71ea66fb54). They are on
        by default, for 0.1 to 0.6 nats (below)."""
    return section("Bounds", text, table(record["rows"], columns), paragraph(told))


SECTIONS: dict[str, Callable[[Record], str]] = {
    "products": products,
    "against": against,
    "share": share,
    "training_speed": training_speed,
    "public": public,
    "quiet_xeon": quiet,
    "bounds_xeon": bounds,
    "sampling": sampling,
    "portable": portable,
    "growth": growth,
    "scale": scale,
    "earlier": earlier,
}


def page() -> str:
    """Return the page."""
    head = textwrap.fill(" ".join(HEAD.split()), 100)
    sections = []
    for name, write in SECTIONS.items():
        record = read(name)
        told = measured(record)
        sections.append(write(record) + (f"\n{paragraph(told)}" if told else ""))
    return "\n".join([f"# Benchmarks\n\n{head}\n", *sections, ACCELERATOR])


if __name__ == "__main__":
    (FOLDER / "README.md").write_text(page())
