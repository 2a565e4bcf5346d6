"""Small files as a user may have them, and datasets and shards of them."""

import io
import json
import struct
import tarfile
import wave
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.data import preprocessing, shard_reader
from pipeline.datasets import catalog
from pipeline.datasets.base import SPLITS, Dataset


def write_picture(
    path: Path, height: int, width: int, seed: int = 0, mode: str = "RGB", **saved: object
) -> np.ndarray:
    """Write a picture of random blocks; return its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    blocks = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    pixels = blocks[..., 0] if channels == 1 else blocks
    Image.fromarray(pixels, mode).save(path, **saved)
    return pixels


def colour_png(width: int, height: int, depth: int, data: bytes) -> bytes:
    """A PNG whose header says that it is so large, in colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def write_pictures(folder: Path, per_class: int = 10) -> None:
    for number, kind in enumerate(("rose", "tulip")):
        for i in range(per_class):
            suffix = ("png", "jpg", "webp")[i % 3]
            path = folder / kind / f"{i}.{suffix}"
            write_picture(path, 20 + i, 24 + number, seed=100 * number + i)


def write_simulations(path: Path, rows: int = 60) -> None:
    generator = np.random.default_rng(0)
    theta = generator.normal(size=(rows, 2))
    x = theta @ generator.normal(size=(2, 3)) + 0.1 * generator.normal(size=(rows, 3))
    np.savez(path, x=x, conditions=theta)


def write_cars(path: Path, rows: int = 60) -> None:
    generator = np.random.default_rng(0)
    lines = ["colour,doors,owners,price"]
    for i in range(rows):
        colour = ("red", "blue", "green")[i % 3]
        lines.append(f"{colour},{i % 2},{i % 7},{generator.normal(9000, 500):.2f}")
    path.write_text("\n".join(lines) + "\n")


def write_sound(path: Path, samples: int, rate: int = 8000, channels: int = 1) -> None:
    """A tone: WAV by the standard library, other formats by soundfile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.4 * np.sin(np.arange(samples) * 2 * np.pi * 440 / rate)
    values = np.repeat(tone[:, None], channels, 1)
    if path.suffix != ".wav":
        import soundfile

        soundfile.write(path, values, rate)
        return
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((values * 32767).round().astype("<i2").tobytes())


def write_recordings(folder: Path, files: int = 20) -> None:
    names = [f"{i}.{('wav', 'flac', 'ogg')[i % 3]}" for i in range(files)]
    for i, name in enumerate(names):
        write_sound(folder / name, 400 + 10 * i)
    rows = [f"{name},{('ann', 'bob')[i % 2]}" for i, name in enumerate(names)]
    (folder / "table.csv").write_text("\n".join(["file,speaker", *rows]) + "\n")


def packed_pictures(count: int) -> list[bytes]:
    contents = []
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format=("PNG", "JPEG")[seed % 2])
        contents.append(stream.getvalue())
    return contents


def write_image_parquet(
    path: Path,
    images: list[bytes | None],
    labels: list[int] | list[int | None],
    names: list[str] | None = None,
) -> None:
    """Write images as Hugging Face `datasets` does: a struct of bytes and path, and a label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = [{"bytes": content, "path": f"{n}.png"} for n, content in enumerate(images)]
    table = pa.table({"image": pa.array(rows, kind), "label": pa.array(labels, pa.int64())})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        told = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": told})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=7)


def write_image_tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def own(kind: str, **options: Any) -> Dataset:
    return catalog.get_dataset({"name": "mine", "kind": kind, **options})


def shards(dataset: Dataset) -> dict[str, Any]:
    folder = preprocessing.write(dataset, dataset.decode(Path()), Path("shards"))
    return {split: shard_reader.read_split(folder, split) for split in SPLITS}
