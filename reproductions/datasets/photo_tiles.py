"""Tiles of 39 photographs from three Debian packages, 32 x 32 or 64 x 64: in place of ImageNet.

Photographs are reduced to a shorter side of 320 pixels and cut into tiles side by side. The split
is by photograph, so that no two splits share a scene: the recorded lists in photo_tiles_split.json,
of each package's photographs by name in the permutation of seed 0 the first for test, the next for
valid. Drawings and composites of the packages are left out.

Tiles of a photograph are alike, so that a standard error over tiles is too small for the question
how well a model does on other photographs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from PIL import features

from arcore.events import Levels
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, SplitData
from pipeline.datasets.decoding_parts import available_cores
from pipeline.datasets.formats import image_files
from pipeline.datasets.formats.image_files import Frame
from pipeline.datasets.options import Options, parse_options
from pipeline.datasets.read_transforms import permute_rows
from reproductions.datasets.debian_packages import APT_ARCHIVES, raw_packages, read_files
from reproductions.datasets.recorded_content import check_content

SPLIT_FILE = Path(__file__).with_name("photo_tiles_split.json")
SHORTER_SIDE = 320
NUM_TEST, NUM_VALID = (2, 2, 2), (2, 1, 1)  # of each package
_PACKAGES = raw_packages("photo_tiles")
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


def write_split(raw_dir: Path, path: Path = SPLIT_FILE) -> None:
    """Write which photographs are train, valid and test, as JSON."""
    recorded: dict[str, list[str]] = {split: [] for split in SPLITS}
    for found, num_test, num_valid in zip(photographs(raw_dir), NUM_TEST, NUM_VALID, strict=True):
        names = sorted(found)
        order = [names[i] for i in permute_rows(len(names), 0)]
        recorded["test"] += sorted(order[:num_test])
        recorded["valid"] += sorted(order[num_test : num_test + num_valid])
        recorded["train"] += sorted(order[num_test + num_valid :])
    path.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class PhotoTiles(Dataset):
    """Tiles of photographs, split by photograph."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the photographs by several threads, and check the pixels."""
        found = {name: data for one in photographs(raw_dir) for name, data in one.items()}
        recorded = json.loads(SPLIT_FILE.read_text(encoding="utf-8"))
        size = self.event.extents[-1]
        frame = Frame(size, size, fit="tiles", shorter_side=SHORTER_SIDE)

        def read(name: str) -> np.ndarray:
            return image_files.read_rows(io.BytesIO(found[name]), frame, name)

        splits = {}
        with ThreadPoolExecutor(available_cores()) as pool:
            for split in SPLITS:
                missing = [name for name in recorded[split] if name not in found]
                if missing:
                    raise UserError(f"{raw_dir}: expected the photograph {missing[0]}, found none")
                splits[split] = SplitData(np.concatenate(list(pool.map(read, recorded[split]))))
        by = f"Pillow {PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}"
        check_content(self.name, splits.values(), CONTENT_SHA256[size], by)
        return splits


def _build(size: int, config: Mapping[str, object]) -> Dataset:
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
        options=parse_options(Options, name, config),
        system_folders=(APT_ARCHIVES,),
    )


build_32, build_64 = partial(_build, 32), partial(_build, 64)
