"""The stages fetch and preprocess, in a working directory of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from tests.places import MIRROR, ROOT


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_digits_end_to_end_and_twice_the_same_bytes(workdir: Path, run_stage, caplog) -> None:
    caplog.set_level("INFO")
    run_stage(workdir, "fetch", "digits")
    assert (workdir / "data/raw/digits/source.json").is_file()
    folder = workdir / "data/shards/digits"
    run_stage(workdir, "preprocess", "digits", "rows_per_shard=500")
    assert "digits: 1257/180/360 rows" in caplog.text
    first = folder_bytes(folder)
    preprocessing.preprocess(catalog.get_dataset({"name": "digits", "rows_per_shard": 500}))
    assert folder_bytes(folder) == first and len(first) == 7
    manifest = read_manifest(folder)
    assert manifest.num_classes == 10 and manifest.unit == "bits_per_dim"
    assert manifest.options == {"rows_per_shard": 500}


def test_no_network_is_one_line(workdir: Path, command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses every connection stands for a machine without a network."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    line = command(workdir, "fetch", "binarized_mnist")
    assert "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/" in line
    assert "data/raw/binarized_mnist/binarized_mnist_train.amat" in line


def test_truncated_raw_file_is_one_line(workdir: Path, command) -> None:
    raw = workdir / "data/raw/mnist"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(bytes((0, 0, 8, 3)) + b"0" * 96)
    line = command(workdir, "preprocess", "mnist")
    assert "data/raw/mnist/train-images-idx3-ubyte: wrong checksum" in line
    assert not (workdir / "data/shards").exists()


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


def test_killed_preprocess_leaves_nothing_that_is_read_and_the_next_run_cleans(workdir) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=workdir, env=environment)
    assert killed.returncode == -signal.SIGKILL
    root = workdir / "data/shards"
    (partial,) = root.iterdir()
    assert partial.name.startswith(".digits.") and partial.name.endswith(".partial")
    preprocessing.preprocess(catalog.get_dataset({"name": "digits"}))
    assert [path.name for path in root.iterdir()] == ["digits"]
    read_manifest(root / "digits")


@pytest.mark.skipif(not (MIRROR / "uci_binary").is_dir(), reason=f"no data mirror at {MIRROR}")
def test_dna_from_the_mirror(workdir: Path, run_stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCORE_MIRROR", str(MIRROR))
    run_stage(workdir, "fetch", "dna")
    run_stage(workdir, "preprocess", "dna")
    manifest = read_manifest(workdir / "data/shards/dna")
    assert [manifest.splits[s].rows for s in ("train", "valid", "test")] == [1400, 600, 1186]
    assert "1400/600/1186 as in the papers" in manifest.provenance
    assert manifest.published_name == "dna"
    x = shard_reader.read_split(workdir / "data/shards/dna", "train").x
    assert x.shape == (1400, 180) and set(np.unique(x)) == {0, 1}
