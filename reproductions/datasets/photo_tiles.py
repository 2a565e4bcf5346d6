"""Tiles of 39 photographs from three Debian packages, 32 x 32 or 64 x 64: in place of ImageNet.

No two splits share a photograph: of each package's, in the permutation of seed 0, the first 2 are
test, the next 2 (1 of the last two packages) valid. Tiles of a photograph are alike, so that a
standard error over tiles is too small for how well a model does on other photographs.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

from arcore.events import Levels
from pipeline.datasets.base import SPLITS, Dataset, SplitData, listed_files
from pipeline.datasets.formats import image_files
from pipeline.datasets.options import Options, parse_options
from reproductions.datasets.stand_ins import APT_ARCHIVES, PACKAGES, check_content, read_files

SPLIT_FILE = Path(__file__).with_name("photo_tiles_split.json")
SHORTER_SIDE = 320
_PACKAGES = listed_files(PACKAGES, "photo_tiles")
_FOLDERS = ("budgie", "", "mate/nature")  # below usr/share/backgrounds, of each package
_LEFT_OUT = (
    "ocean-waves.jpg",  # drawings
    "valley-midnight.jpg",
    "waves-midnight.jpg",
    "umang_by_Abhishek_Mudgal.jpg",
    "analogpattern_by_Peter_Nerlich.jpg",  # a pattern
    "saturnian-profile.jpg",  # a composite, mostly black
)
# Of the bytes of train, valid and test, by the size of a tile.
CONTENT_SHA256 = {
    32: "8e53c1d908a6f69905c8cc0c7c3b42d69131fceeae946964845462d65f15a944",
    64: "1fcc29824f910bcbb6edc6de2b267cd0948014923154bf4f9c007185a72a58a5",
}


def photographs(raw_dir: Path) -> list[dict[str, bytes]]:
    """Read the files of the photographs of each package, by name."""
    packages = []
    for package, folder in zip(_PACKAGES, _FOLDERS, strict=True):
        above = Path("usr/share/backgrounds") / folder
        found = {}
        for name, content in read_files(raw_dir / package.name, (".jpg",)):
            path = Path(name)
            if path.parent == above and path.name not in _LEFT_OUT:
                found[path.name] = content
        packages.append(found)
    return packages


@dataclass(frozen=True, kw_only=True)
class PhotoTiles(Dataset):
    """Tiles of photographs, split by photograph."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the photographs, and check the pixels."""
        found = {name: data for one in photographs(raw_dir) for name, data in one.items()}
        recorded = json.loads(SPLIT_FILE.read_text(encoding="utf-8"))
        size = self.event.extents[-1]
        splits = {}
        for split in SPLITS:
            columns = [recorded[split], [found[name] for name in recorded[split]]]
            splits[split] = SplitData(image_files.decode(partial(_read_tiles, size), columns))
        by = f"Pillow {PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}"
        check_content(self.name, splits.values(), CONTENT_SHA256[size], by)
        return splits


def _read_tiles(size: int, name: str, content: bytes) -> np.ndarray:
    """Cut a reduced photograph into (rows, 3, size, size) around its middle, row by row."""
    image = image_files.decode_upright(io.BytesIO(content), False, name)
    scale = min(1, SHORTER_SIDE / min(image.size))
    image = image.resize([round(scale * side) for side in image.size], Image.Resampling.BICUBIC)
    down, across = image.height // size, image.width // size
    top, left = (image.height - down * size) // 2, (image.width - across * size) // 2
    pixels = image_files.channels_first(image)
    middle = pixels[:, top : top + down * size, left : left + across * size]
    cut = middle.reshape(3, down, size, across, size)
    return cut.transpose(1, 3, 0, 2, 4).reshape(-1, 3, size, size)


def _build(size: int, settings: Mapping[str, object]) -> Dataset:
    name = f"photo_tiles{size}"
    return PhotoTiles(
        name=name,
        family="photo_tiles",
        event=Levels(256, (3, size, size)),
        unit="bits_per_dim",
        files=_PACKAGES,
        provenance=(
            f"tiles of {size} x {size} of 39 photographs reduced to a shorter side of "
            f"{SHORTER_SIDE}, from Debian's budgie-backgrounds 3.0-1 (CC0), "
            f"lomiri-wallpapers-16.04 20.04.0-4 (CC BY, CC BY-SA, CC0) and mate-backgrounds "
            f"1.26.0-1 (GPL-2+); drawings left out; split by photograph, 29/4/6, by the recorded "
            "lists photo_tiles_split.json"
        ),
        options=parse_options(Options, name, settings),
        system_folders=(APT_ARCHIVES,),
    )


build_32, build_64 = partial(_build, 32), partial(_build, 64)
