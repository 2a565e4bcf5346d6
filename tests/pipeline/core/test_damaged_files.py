"""Files of other programs, cut, planted or of another encoding: one line that names them."""

import io
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.datasets.formats.archives import open_archive
from pipeline.training.training_records import read_history


def test_a_damaged_xz_archive(tmp_path: Path) -> None:
    path, content = tmp_path / "a.tar.xz", io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        info = tarfile.TarInfo("a")
        info.size = 100_000
        archive.addfile(info, io.BytesIO(np.random.default_rng(0).bytes(info.size)))
    packed = bytearray(lzma.compress(content.getvalue()))
    packed[len(packed) // 2] ^= 255
    path.write_bytes(packed)
    with pytest.raises(UserError, match=str(path)):
        with open_archive(path) as files:
            for _, inner in files:
                inner.read()


@pytest.mark.parametrize(
    "text",
    ["epoch,valid_nats\n1,low\n", "epoch,valid_nats\n1,nan\n", "epoch\n1,2\n", "valid_nats\n1\n",
     "epoch,valid_nats\n0,1\n", 'epoch\n"1', "epoch\n1.5\n", None],
)  # fmt: skip
def test_histories(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "history.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=f"{path}: "):
        read_history(path)
    path.write_text("epoch,valid_nats\n1,2.5\n2,\n")
    assert [row["valid_nats"] for row in read_history(path)] == ["2.5", ""]
