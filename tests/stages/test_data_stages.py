"""The stages fetch and preprocess as commands, in a working directory of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from tests.places import MIRROR, ROOT


def environment(**extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("ARCORE_MIRROR", "ARCORE_HOME")}
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


def stage(cwd: Path, *command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=120,
    )


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_digits_end_to_end_and_twice_the_same_bytes(workdir: Path) -> None:
    assert stage(workdir, "stages.fetch", "digits").returncode == 0
    assert (workdir / "data/raw/digits/source.json").is_file()
    folder = workdir / "data/shards/digits"
    done = stage(workdir, "stages.preprocess", "digits", "rows_per_shard=500")
    assert done.returncode == 0, done.stderr
    assert "digits: 1257/180/360 rows" in done.stderr
    first = folder_bytes(folder)
    preprocessing.preprocess(catalog.get_dataset({"name": "digits", "rows_per_shard": 500}))
    assert folder_bytes(folder) == first and len(first) == 7
    manifest = read_manifest(folder)
    assert manifest.num_classes == 10 and manifest.unit == "bits_per_dim"
    assert manifest.options == {"rows_per_shard": 500}


@pytest.mark.parametrize("module", ["stages.fetch", "stages.preprocess"])
def test_help(tmp_path: Path, module: str) -> None:
    done = stage(tmp_path, module, "--help")
    assert done.returncode == 0
    assert "Known datasets: " in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("stages.fetch", "digts"), "error: unknown dataset 'digts'; did you mean 'digits'"),
        (("stages.preprocess", "digits", "row=1"), "error: unknown digits option 'row'"),
        (("stages.preprocess", "dna"), "error: data/raw/dna/dna.train.data: file not found"),
    ],
)
def test_bad_input_is_one_line_and_not_zero(
    tmp_path: Path, command: tuple[str, ...], message: str
) -> None:
    done = stage(tmp_path, *command)
    assert done.returncode == 1
    assert done.stderr.startswith(message) and done.stderr.count("\n") == 1


def test_no_network_fails_in_seconds_with_one_line(tmp_path: Path) -> None:
    # A proxy that refuses every connection stands for a machine without a network.
    dead = "http://127.0.0.1:9"
    start = time.monotonic()
    done = stage(tmp_path, "stages.fetch", "binarized_mnist", http_proxy=dead, HTTP_PROXY=dead)
    assert done.returncode == 1 and time.monotonic() - start < 30
    assert done.stderr.count("\n") == 1
    assert "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/" in done.stderr
    assert "data/raw/binarized_mnist/binarized_mnist_train.amat" in done.stderr


def test_truncated_raw_file_is_one_line(tmp_path: Path) -> None:
    raw = tmp_path / "data/raw/mnist"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(bytes((0, 0, 8, 3)) + b"0" * 96)
    done = stage(tmp_path, "stages.preprocess", "mnist")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "data/raw/mnist/train-images-idx3-ubyte: wrong checksum" in done.stderr
    assert not (tmp_path / "data/shards").exists()


KILLED = """
import os, signal
from pathlib import Path
from pipeline.data import preprocessing
from pipeline.datasets import catalog
write, count = Path.write_bytes, 0
def dying(self, data):
    global count
    count += 1
    if count == 2:
        write(self, bytes(data)[:100])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, data)
Path.write_bytes = dying
preprocessing.preprocess(catalog.get_dataset({"name": "digits"}))
"""


def test_killed_preprocess_leaves_nothing_that_is_read_and_the_next_run_cleans(
    workdir: Path,
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=workdir, env=environment())
    assert killed.returncode == -signal.SIGKILL
    root = workdir / "data/shards"
    (partial,) = root.iterdir()
    assert partial.name.startswith(".digits.") and partial.name.endswith(".partial")
    preprocessing.preprocess(catalog.get_dataset({"name": "digits"}))
    assert [path.name for path in root.iterdir()] == ["digits"]


@pytest.mark.skipif(not (MIRROR / "uci_binary").is_dir(), reason=f"no data mirror at {MIRROR}")
def test_dna_from_the_mirror(tmp_path: Path) -> None:
    done = stage(tmp_path, "stages.fetch", "dna", ARCORE_MIRROR=str(MIRROR))
    assert done.returncode == 0, done.stderr
    assert stage(tmp_path, "stages.preprocess", "dna").returncode == 0
    manifest = read_manifest(tmp_path / "data/shards/dna")
    assert [manifest.splits[s].rows for s in ("train", "valid", "test")] == [1400, 600, 1186]
    assert "1400/600/1186 as in the papers" in manifest.provenance
    assert manifest.published_name == "dna"
    x = shard_reader.read_split(tmp_path / "data/shards/dna", "train").x
    assert x.shape == (1400, 180) and set(np.unique(x)) == {0, 1}
