"""A check of the user's images that is much cheaper than to decode them."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from pathlib import Path

from tqdm import tqdm

from pipeline.datasets.formats.image_files import (
    Frame,
    Source,
    ends_whole,
    is_coloured,
    measure,
    read_rows,
)
from pipeline.datasets.user.findings import counted, listed

_DECODED = 100  # images of a dataset whose pixels are decoded


class ImageCheck:
    """A check of all images, with a bar of progress.

    The header and the end of each image are inspected. Pixels are decoded of at most a hundred, and
    of images that do not end as they should. Colours are looked for where they would be left out.

    Arguments:
        frame: what images are brought to.
        count: of the images.
    """

    def __init__(self, frame: Frame, count: int) -> None:
        self.frame, self.count = frame, count
        self.extents = Counter[tuple[int, int]]()
        self._stride = -(-count // _DECODED)
        self._decoded = self._seen = self._coloured = 0
        self._bar = tqdm(
            total=count, desc="checking", unit="image", leave=False, delay=0.5, disable=None
        )

    def __enter__(self) -> ImageCheck:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def look_at(self, source: Source, where: str | Path) -> tuple[int, int]:
        """Check one image; return its height and width.

        Raises:
            UserError: naming what is wrong with it.
        """
        size = measure(source, self.frame, where)
        self._coloured += self.frame.gray and is_coloured(source)
        with source.open("rb") if isinstance(source, Path) else BytesIO(source.getvalue()) as file:
            whole = ends_whole(file)
        if not whole or self._seen % self._stride == 0:
            read_rows(source, self.frame, where)
            self._decoded += 1
        self._seen += 1
        self._bar.update()
        self.extents[size] += 1
        return size

    def told(self) -> list[str]:
        """Say what was found, in lines."""
        sizes = [f"{many} of {high} x {wide}" for (high, wide), many in self.extents.most_common()]
        rest = ", of the others headers and ends; preprocess decodes all"
        coloured = counted(self._coloured, "image")
        lines = [f"beware: {coloured} stored in colour made gray; gray=false keeps colours"]
        return [
            *lines * (self._coloured > 0),
            f"sizes (height x width): {listed(sizes)}",
            f"checked: the pixels of {self._decoded}{rest * (self._decoded < self.count)}",
        ]
