"""ImageNet at 32 x 32 and 64 x 64 pixels, as van den Oord et al. 2016 made it: archives of PNGs.

There are no labels. The sets are larger than memory, so that they are decoded as streams. The
archives must be put in place by hand or by a mirror; the sums are what TensorFlow Datasets
recorded. The sets that image-net.org gives now under the same names (Chrabaszcz et al. 2017) are
another downsampling; likelihoods on them don't compare with those papers'.
"""

import io
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from arcore.events import Levels
from pipeline.datasets.base import Dataset, SplitData, SplitStream, listed_files
from pipeline.datasets.formats.archives import open_archive
from pipeline.datasets.options import Options, parse_options

NUM_TRAIN_FILE, NUM_VALID, NUM_TEST = 1_281_149, 5_000, 49_999
FILES = Path(__file__).with_name("imagenet_files.yaml")
PART = 1024


@dataclass(frozen=True, kw_only=True)
class SmallImagenet(Dataset):
    """Images of one size, in the archives train_<n>x<n>.tar and valid_<n>x<n>.tar.

    Arguments:
        num_train_file: images of the training archive.
        num_valid: the last ones of these, which are valid.
        num_test: images of the validation archive, which are test.
    """

    num_train_file: int = NUM_TRAIN_FILE
    num_valid: int = NUM_VALID
    num_test: int = NUM_TEST

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Return streams of the three splits; the training archive is passed over twice."""
        size = self.event.extents[-1]
        train, test = (raw_dir / f"{part}_{size}x{size}.tar" for part in ("train", "valid"))
        cut = self.num_train_file - self.num_valid
        return {
            "train": SplitStream(cut, _stream(train, 0, cut)),
            "valid": SplitStream(self.num_valid, _stream(train, cut, self.num_train_file)),
            "test": SplitStream(self.num_test, _stream(test, 0, self.num_test)),
        }


def _stream(path: Path, start: int, stop: int) -> Iterator[SplitData]:
    with open_archive(path) as files:
        chosen = itertools.islice(files, start, stop)
        while images := [_decode(content) for _, content in itertools.islice(chosen, PART)]:
            yield SplitData(np.stack(images))


def _decode(content: IO[bytes]) -> np.ndarray:
    """Decode a PNG of 8-bit RGB, (3, size, size) uint8."""
    with Image.open(io.BytesIO(content.read()), formats=["PNG"]) as image:
        return np.asarray(image).transpose(2, 0, 1)


def _build(size: int, settings: Mapping[str, object]) -> Dataset:
    name = f"imagenet{size}"
    return SmallImagenet(
        name=name,
        event=Levels(256, (3, size, size)),
        unit="bits_per_dim",
        files=listed_files(FILES, name),
        provenance=(
            f"train_{size}x{size}.tar and valid_{size}x{size}.tar of image-net.org/small (van den "
            f"Oord et al. 2016), no longer there; valid = the last {NUM_VALID} images of the "
            f"training archive in its order; test = the validation archive, on which papers report"
        ),
        options=parse_options(Options, name, settings),
        published_name=name,
    )


DATASETS = {f"imagenet{size}": partial(_build, size) for size in (32, 64)}
