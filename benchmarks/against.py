"""This checkout against an older commit: training steps and sampling, as ratios in one run.

Both sides run in a process of their own, and each is asked for a step in turn, so that a change of
the machine's speed meets both. A step is forward, backward and AdamW on one batch, in the precision
that params.yaml of 4edf346 and of this checkout name for the model (auto: bfloat16), or in that of
`--precision`, for processors without bfloat16; a sampling step draws so many images. A commit that
sets the allocator has its settings; one before runs on those of the C library, as a step of 4edf346
is for the ratios wanted. Only the public interface is used, which is the same in both.
Columns are milliseconds (minimum and median) of the older commit and of this checkout, their ratio
(of the minima, and the median of the pairs' ratios), above 1 where this checkout is faster, and the
ratio wanted. In one thread, milliseconds are the processor's.

    python benchmarks/against.py <commit> [--pairs 9] [--only pixelcnn ...] [--threads 1]
                                 [--precision float32] [--json FILE]
"""

import dataclasses
import json
import os
import runpy
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

LIMIT = 40.0  # seconds of a row's pairs
ROOT = Path(__file__).resolve().parent.parent
ALLOCATOR = {
    "arcore/process_tuning.py": "ALLOCATOR_VARIABLES",
    "pipeline/core/allocator.py": "VARIABLES",
}
IMAGE, CLIP = ("Binary", (1, 28, 28)), ("Binary", (20, 1, 64, 64))
COLOUR, SOUND = ("Levels", (256, (3, 32, 32))), ("Levels", (256, (4096,)))


@dataclass(frozen=True)
class Row:
    """What is measured: a training step, or the drawing of `batch` events."""

    name: str
    model: str
    event: tuple[str, Any] = IMAGE
    batch: int = 64
    before: str = "float32"
    after: str = "float32"
    sampling: bool = False
    wanted: float | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)

    def job(self, precision: str) -> dict[str, Any]:
        kind, given = self.event
        return {
            "model": self.model,
            "kind": kind,
            "event": list(given) if kind == "Levels" else [given],
            "batch": self.batch,
            "precision": precision,
            "sampling": self.sampling,
            "hyperparameters": self.hyperparameters,
        }


BF16 = {"before": "bfloat16", "after": "bfloat16"}
VIDEO = {
    "width": 8,
    "encoder_blocks": 2,
    "recurrent_width": 16,
    "decoder_blocks": 2,
    "head_width": 16,
    "context_frames": 10,
}
COLOURED = {"head": "logistic_mixture", "width": 64, "num_layers": 6, "head_width": 64}
GATED = {"num_layers": 5, "width": 32}
ROWS = [
    Row("nade", "nade", batch=100, hyperparameters={"hidden": 500}),
    Row("made", "made", batch=100, **BF16, hyperparameters={"hidden": [8000]}),
    Row(
        "pixelcnn", "pixelcnn", after="bfloat16", wanted=2.4,
        hyperparameters={"num_blocks": 15, "hidden": 16},
    ),
    Row("gated_pixelcnn", "gated_pixelcnn", **BF16, wanted=1.3, hyperparameters=GATED),
    Row(
        "row_lstm", "row_lstm", batch=25, after="bfloat16", wanted=1.6,
        hyperparameters={"hidden": 24},
    ),
    Row(
        "diagonal_bilstm", "diagonal_bilstm", batch=25, after="bfloat16", wanted=1.5,
        hyperparameters={"hidden": 32, "num_layers": 1},
    ),
    Row(
        "multiscale_pixelrnn", "multiscale_pixelrnn", batch=25, after="bfloat16", wanted=1.5,
        hyperparameters={"hidden": 16, "num_layers": 1, "base_num_layers": 1},
    ),
    Row(
        "pixelvae", "pixelvae", batch=50, **BF16, wanted=1.3,
        hyperparameters={"upsample": False, "num_layers": 4, "first_kernel": 7},
    ),
    Row(
        "parallel_multiscale", "parallel_multiscale", batch=50, **BF16, wanted=1.2,
        hyperparameters={"base_size": 7, "width": 32, "num_blocks": 2, "head_width": 32},
    ),
    Row("conv_nade", "conv_nade", batch=50, **BF16, hyperparameters={"hidden": [500, 500]}),
    Row(
        "video_pixel_network", "video_pixel_network", CLIP, 1, **BF16, wanted=1.3,
        hyperparameters=VIDEO,
    ),
    Row("wavenet", "wavenet", SOUND, 4, **BF16, wanted=1.3, hyperparameters={"cycle": 9}),
    Row("logistic", "gated_pixelcnn", COLOUR, 4, **BF16, hyperparameters=COLOURED),
    Row("nade-sample", "nade", sampling=True, wanted=3.0, hyperparameters={"hidden": 500}),
    Row(
        "pixelcnn-sample", "pixelcnn", batch=16, sampling=True,
        hyperparameters={"num_blocks": 15, "hidden": 16},
    ),
    Row("gated_pixelcnn-sample", "gated_pixelcnn", batch=16, sampling=True, hyperparameters=GATED),
    Row(
        "wavenet-sample", "wavenet", ("Levels", (256, (200,))), 16, sampling=True,
        hyperparameters={"num_blocks": 3, "cycle": 10},
    ),
    Row(
        "logistic-sample", "gated_pixelcnn", ("Levels", (256, (3, 8, 8))), 4, sampling=True,
        wanted=30.0, hyperparameters=COLOURED,
    ),
]  # fmt: skip


def make_step(job: dict[str, Any]) -> Callable[[], None]:
    """Make a step of whichever arcore is on the path."""
    import torch
    from measuring import training_step

    import arcore

    torch.manual_seed(0)
    event = getattr(arcore.events, job["kind"])(
        *(tuple(part) if isinstance(part, list) else part for part in job["event"])
    )
    model = arcore.create_model(job["model"], event, **job["hyperparameters"])
    if job["sampling"]:
        model.eval()

        def draw() -> None:
            model.sample(job["batch"])

        return draw
    x = torch.randint(getattr(event, "num_levels", 2), (job["batch"], *event.shape))
    if job["kind"] == "Binary":
        x = (torch.rand(x.shape) < 0.13).float()
    return training_step(model, x, job["precision"])


def serve(threads: int) -> None:
    """Answer requests: a job makes a step ready, "step" takes one and prints its seconds."""
    sys.path.append(str(Path(__file__).parent))  # which a safe path leaves out
    import measuring
    import torch

    torch.set_num_threads(threads)
    clock = measuring.clock_of(threads)
    step: Callable[[], None] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        began = clock()
        if request == "step":
            assert step is not None
            step()
        else:
            step = make_step(request)
        print(clock() - began, flush=True)


class Side:
    """A process that runs steps of one source tree."""

    def __init__(self, root: Path, threads: int) -> None:
        files = ((root / file, name) for file, name in ALLOCATOR.items())
        found = (runpy.run_path(str(file))[name] for file, name in files if file.exists())
        settings: dict[str, str] = next(found, {})
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve", "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **settings, "PYTHONPATH": str(root), "PYTHONSAFEPATH": "1"},
        )

    def ask(self, request: object) -> float:
        """Return the seconds that a request took."""
        sent, answered = self.process.stdin, self.process.stdout
        assert sent is not None and answered is not None
        sent.write(json.dumps(request) + "\n")
        sent.flush()
        answer = answered.readline()
        if not answer:
            raise SystemExit(f"a side ended with status {self.process.wait()}: {request}")
        return float(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def extract(commit: str, folder: Path) -> None:
    """Write a commit's files into a folder."""
    known = ["git", "-C", str(ROOT), "rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}"]
    if subprocess.run(known, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"error: commit: expected one that git has, got {commit!r}")
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", commit, "arcore", "pipeline"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as archive:
        stream: IO[bytes] | None = archive.stdout
        assert stream is not None
        with tarfile.open(fileobj=stream, mode="r|") as files:
            files.extractall(folder, filter="data")
        stream.read()  # what pads an archive, or Git is stopped while it writes that
    if archive.returncode:
        raise SystemExit(f"error: git archive {commit}: status {archive.returncode}")


def compare(row: Row, old: Side, new: Side, pairs: int) -> dict[str, Any]:
    """Return the times of a row: at least 3 pairs, then as many as LIMIT leaves."""
    old.ask(row.job(row.before))
    new.ask(row.job(row.after))
    for side in (old, new):
        side.ask("step")
    began, times = time.perf_counter(), []
    while len(times) < pairs and (len(times) < 3 or time.perf_counter() - began < LIMIT):
        times.append((old.ask("step"), new.ask("step")))
    before, after = zip(*times, strict=True)
    return {
        "name": row.name,
        "precision": row.after if row.before == row.after else f"{row.before}, {row.after}",
        "before_ms": [1e3 * min(before), 1e3 * statistics.median(before)],
        "after_ms": [1e3 * min(after), 1e3 * statistics.median(after)],
        "ratio": [min(before) / min(after), statistics.median(b / a for b, a in times)],
        "pairs": len(times),
        "wanted": row.wanted,
    }


def line(measured: dict[str, Any]) -> str:
    """Return a line of the table."""
    before, after = (
        ", ".join(f"{value:.1f}" for value in measured[key]) for key in ("before_ms", "after_ms")
    )
    ratio = ", ".join(f"{value:.2f}" for value in measured["ratio"])
    wanted = "" if measured["wanted"] is None else f">= {measured['wanted']}"
    name, precision = measured["name"], measured["precision"]
    return f"| {name} | {precision} | {before} | {after} | {ratio} | {wanted} |"


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[3]))
        return
    import measuring

    parser = measuring.parser(__doc__, threads=1)
    parser.add_argument("commit")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS])
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="of both sides")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if not arguments.only or row.name in arguments.only]
    if arguments.precision:
        both = {"before": arguments.precision, "after": arguments.precision}
        rows = [dataclasses.replace(row, **both) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        extract(arguments.commit, Path(folder))
        title = f"{arguments.commit} against this checkout, {arguments.pairs} pairs"
        print(f"{title}, load {measuring.load()}")
        columns = ("precision", "before, ms", "after, ms", "before / after", "wanted")
        measuring.table_head("", *columns)
        results = []
        for row in rows:
            old = Side(Path(folder), arguments.threads)
            new = Side(ROOT, arguments.threads)
            results.append(compare(row, old, new, arguments.pairs))
            print(line(results[-1]), flush=True)
            old.close()
            new.close()
    checkout = measuring.origin()["at"]
    found = {"commit": arguments.commit, "checkout": checkout, "rows": results}
    measuring.write(arguments.json, found)


if __name__ == "__main__":
    main()
