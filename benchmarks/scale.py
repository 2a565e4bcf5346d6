"""A data set larger than memory, from images to a result: memory flat, time linear in the rows.

So many generated RGB images of 32 x 32 are written as PNG into Parquet files, as Hugging Face
`datasets` has them, and go through the stages as a user's own would: `add_dataset`, `preprocess`,
two epochs of a tiny MADE by two workers, `evaluate`; `dvc add` hashes the shards. A row is 3,072
bytes in memory. Every 0.1 s the processes of a stage are looked at: the resident memory of the
stage's own process and of the largest worker of Ray, and the processor's seconds of all of them.
What was written is removed at the end.

    python benchmarks/scale.py --rows 20000 100000 500000 [--json FILE]
"""

import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from pipeline.artifacts import origin

ROOT = Path(__file__).resolve().parents[1]
PER_FILE, BATCH, LOOK_SECONDS = 20_000, 1000, 0.1
SHUFFLE_ROWS = 10_000  # of a window of training, two of which a worker holds
NAME, EXPERIMENT = "scale", "scale-made"
ENTRY = {
    "dataset": NAME,
    "model": "made",
    "model_overrides": {"hidden": [16], "direct": False},
    "trainer": {"max_epochs": 2, "batch_size": 500, "shuffle_rows": SHUFFLE_ROWS},
    "evaluation": {"num_samples": 2},
}
DVC = str(Path(sys.executable).parent / "dvc")
TWO = ("cluster.num_workers=2", "cluster.cpus_per_worker=1")
STEPS: dict[str, tuple[str, ...]] = {
    "add_dataset": (sys.executable, "-m", "stages.add_dataset", NAME, "--images", "images",
                    "num_levels=2", "--replace"),
    "preprocess": (sys.executable, "-m", "stages.preprocess", NAME),
    "dvc": (DVC, "add", "-q", f"data/shards/{NAME}"),
    "train": (sys.executable, "-m", "stages.train", EXPERIMENT, *TWO),
    "evaluate": (sys.executable, "-m", "stages.evaluate", EXPERIMENT),
}  # fmt: skip


def png(pixels: np.ndarray) -> bytes:
    """Encode an image."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def generate(rows: int, folder: Path) -> None:
    """Write images of 4 x 4 random squares into Parquet files of `PER_FILE` rows."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    schema = pa.schema({"image": kind})
    for first in range(0, rows, PER_FILE):
        generator = np.random.default_rng(first)
        with pq.ParquetWriter(folder / f"{first // PER_FILE:05d}.parquet", schema) as writer:
            for start in range(first, min(first + PER_FILE, rows), BATCH):
                count = min(BATCH, rows - start)
                squares = generator.integers(0, 256, (count, 4, 4, 3), np.uint8)
                pixels = squares.repeat(8, 1).repeat(8, 2)
                images = [{"bytes": png(image), "path": None} for image in pixels]
                writer.write_table(pa.table({"image": pa.array(images, kind)}, schema))


def project(folder: Path) -> None:
    """Put the code and an experiment into a folder."""
    for name in ("arcore", "pipeline", "stages", "reproductions"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    content = {"datasets": [NAME], "experiments": {EXPERIMENT: ENTRY}}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))


def watched(command: tuple[str, ...], folder: Path) -> dict[str, float]:
    """Run a command; return its seconds, and peaks of resident memory in MB."""
    dropped = ("ARCORE_", "MLFLOW_", "RAY_", "OMP_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = kept | {
        "PYTHONPATH": str(folder),
        "PATH": path,
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
    }
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    seconds, peaks = dict[int, float](), {"stage_mb": 0.0, "worker_mb": 0.0}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            try:
                main = psutil.Process(process.pid)
                found = [main, *main.children(recursive=True)]
            except psutil.Error:
                continue
            for one in found:
                try:
                    times, memory = one.cpu_times(), one.memory_info().rss / 2**20
                    key = "stage_mb" if one.pid == process.pid else "worker_mb"
                    is_worker = key == "stage_mb" or one.name().startswith("ray::")
                except psutil.Error:
                    continue
                seconds[one.pid] = times.user + times.system
                if is_worker:
                    peaks[key] = max(peaks[key], memory)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        code = process.wait()
    finally:
        ended.set()
        thread.join()
    if code != 0:
        sys.exit(f"error: {' '.join(command)}: status {code}")
    wall = time.perf_counter() - began
    return {"seconds": wall, "cpu_seconds": sum(seconds.values()), **peaks}


def size_mb(folder: Path) -> float:
    """Return the size of the files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def measure(rows: int, folder: Path, keep: Callable[[str, Any], None]) -> None:
    """Go through the steps with so many rows, keeping what each gives."""
    folder.mkdir()
    project(folder)
    began = time.perf_counter()
    generate(rows, folder / "images")
    keep("generate", {"seconds": time.perf_counter() - began})
    for setup in (("init", "--no-scm", "-q"), ("config", "cache.type", "hardlink")):
        subprocess.run((DVC, *setup), cwd=folder, check=True)
    for name, command in STEPS.items():
        keep(name, watched(command, folder))
    sizes = {"images_mb": folder / "images", "shards_mb": folder / f"data/shards/{NAME}"}
    keep("disk", {key: size_mb(place) for key, place in sizes.items()})
    result = json.loads((folder / f"evaluation/{NAME}/{EXPERIMENT}/metrics.json").read_text())
    keep("result", {key: result[key] for key in ("nats", "nats_stderr", "num_rows")})


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--rows", nargs="+", type=int, default=[20_000, 100_000, 500_000])
    arguments = parser.parse_args()
    cores, memory = len(os.sched_getaffinity(0)), psutil.virtual_memory().total / 2**30
    processor = platform.processor() or platform.machine()
    record: dict[str, Any] = {
        "runs": {},
        "commit": origin.commit(ROOT),
        "hardware": f"{processor}, {cores} CPU(s) of the process, {memory:.0f} GiB",
    }
    with tempfile.TemporaryDirectory() as temporary:
        for rows in arguments.rows:

            def keep(step: str, found: Any, rows: int = rows) -> None:
                record["runs"].setdefault(str(rows), {})[step] = found
                print(rows, step, json.dumps(found), flush=True)

            folder = Path(temporary).resolve() / str(rows)
            measure(rows, folder, keep)
            shutil.rmtree(folder)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
