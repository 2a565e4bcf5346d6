"""Kept pictures of what models draw: small copies in `results/gallery/`, and a page of them.

`results/gallery/<experiment>/<part>.json` says what its pictures show, which command made them and
of which weights; a part is a use, or `samples`. `results/gallery.md` is drawn from these alone.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import shutil
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pandas as pd
from PIL import Image, ImageSequence

from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.artifact import USE
from pipeline.artifacts.origin import commit
from pipeline.artifacts.reader import check_files
from pipeline.artifacts.writer import Work
from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.core.records import Record, omit_if_default, read_object, write_object
from pipeline.evaluation.result_records import Result
from pipeline.reporting import gallery, numbers, tables, templates, wording
from pipeline.stage import Made
from pipeline.uses import use_records
from pipeline.uses.use_records import USES, Number, Shown, UseRecord, UseTiming

GRAY_NOTE = (
    "Targets are gray, draws black or white, and a frame is drawn given the drawn ones before it: "
    "frames that no training clip has, so that what is drawn drifts from the true clip."
)
log = logging.getLogger(__name__)
PAGE, TEMPLATE = "gallery.md", "gallery.md.j2"
SAMPLES = "samples"
MOST_BYTES = 150_000
COLOURS = 256
SHRINK = 0.8  # of both sides, until a picture is small enough
QUALITY = 80


@dataclass(frozen=True, kw_only=True)
class GalleryPart(Record):
    """Pictures of one model that belong together: what they show, and what made them."""

    part: str  # a use, or `samples`
    experiment: str
    dataset: str
    command: str
    commit: str
    weights_sha256: str
    notes: str
    numbers: tuple[Number, ...]
    shown: tuple[Shown, ...]
    others: dict[str, str] | None = omit_if_default(None)  # hashes of weights, by experiment
    device: str = omit_if_default("")  # empty for samples, which an evaluation drew, and old uses
    seconds: float | None = omit_if_default(None)

    @property
    def frame(self) -> pd.DataFrame:
        """The numbers, as a report's table has a use's."""
        return numbers.of_use(self.part, self.experiment, self.numbers)

    @classmethod
    def read(cls, results: Path, experiment: str, part: str) -> GalleryPart:
        """Read the record of a part."""
        path = results / "gallery" / experiment / f"{part}.json"
        return cls.from_dict(read_object(path), str(path))


def record(experiment: str) -> Path:
    """Copy the pictures of an experiment's evaluation and uses to `results/gallery/<experiment>`.

    Pictures above 150 kB are made smaller, and clips become WebP. Parts of an earlier time that are
    not in `evaluation/` now stay if they are of the same weights; others go, with a warning.
    """
    found = [*_samples(experiment), *_uses(experiment)]
    kept = paths.results() / experiment
    if (kept / "metrics.json").is_file():
        recorded = Result.read(kept).weights_sha256
        for part, source in found:
            fits = recorded in (None, part.weights_sha256)
            require(fits, str(source), f"the recorded weights, {recorded}", part.weights_sha256)
    if not found:
        raise UserError(
            f"{experiment}: expected pictures, found none; run `python -m stages.evaluate "
            f"{experiment}` or `python -m stages.use all {experiment}` first"
        )
    folder = paths.results() / "gallery" / experiment

    def make(work: Work) -> Made[Path]:
        for part, source in found:
            check_files(source, f"run `{part.command}`")
            shown = tuple(_copied(part, source, work.folder))
            copy = dataclasses.replace(part, shown=shown)
            write_object(work.folder / f"{part.part}.json", copy.to_dict())
        _carry_over(folder, work.folder, {part.weights_sha256 for part, _ in found})
        return Made(folder, [f"wrote {folder}"])

    return stage.run(artifact.record(folder), make)


def _copied(part: GalleryPart, source: Path, folder: Path) -> Iterator[Shown]:
    for one in part.shown:
        if one.file.endswith(".png"):
            content, suffix = smaller((source / one.file).read_bytes())
            prefix = "" if part.part == SAMPLES else f"{part.part}-"
            name = f"{prefix}{Path(one.file).stem}{suffix}"
            (folder / name).write_bytes(content)
            yield Shown(file=name, caption=one.caption)


def _carry_over(before: Path, after: Path, weights: Container[str]) -> None:
    for path in sorted(before.glob("*.json")):
        if (after / path.name).exists():
            continue
        part = GalleryPart.from_dict(read_object(path), str(path))
        if part.weights_sha256 not in weights:
            log.warning("warning: %s: of other weights; kept no more", path)
            continue
        for name in (path.name, *(one.file for one in part.shown)):
            shutil.copyfile(before / name, after / name)


def _samples(experiment: str) -> Iterator[tuple[GalleryPart, Path]]:
    """Yield what the evaluation of an experiment drew, if there is one."""
    for path in sorted((paths.root() / "evaluation").glob(f"*/{experiment}/samples.png")):
        result = Result.read(path.parent)
        caption = "Samples beside test rows"
        if result.context_frames:
            expected = "what the model expects of each frame given the true ones before it, "
            caption = (
                f"Clips, one a column: the true one, {expected * gallery.shows_expected(result)}"
                f"and what it draws after the first {result.context_frames} frames"
            )
        part = GalleryPart(
            part=SAMPLES,
            experiment=experiment,
            dataset=result.dataset,
            command=f"python -m stages.evaluate {experiment}",
            commit=commit(),
            weights_sha256=result.weights_sha256 or "unknown",
            notes=GRAY_NOTE if result.context_frames and result.excess else "",
            numbers=(),
            shown=(Shown(file=path.name, caption=caption),),
        )
        yield part, path.parent


def _uses(experiment: str) -> Iterator[tuple[GalleryPart, Path]]:
    for path in sorted((paths.root() / "evaluation").glob(f"*/uses/{experiment}/[!.]*/{USE.main}")):
        one, origin = use_records.read(path.parent), UseTiming.of(path.parent)
        same = {key: vars(one)[key] for key in GalleryPart.keys() & UseRecord.keys()}
        ran = {"commit": commit()} if origin is None else vars(origin)
        command = f"python -m stages.use {one.use} {experiment}"
        yield GalleryPart(part=one.use, command=command, **same, **ran), path.parent


def smaller(content: bytes) -> tuple[bytes, str]:
    """Return a PNG as a file of at most 150 kB and its suffix: PNG, or WebP of an animated one."""
    with Image.open(io.BytesIO(content)) as picture:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]
        times = int(picture.info.get("duration", 0))
        has_default = bool(getattr(picture, "default_image", False))
    if has_default and len(frames) > 1:  # a still for viewers that do not know animation
        frames = frames[1:]
    while True:
        made = _animated(frames, times) if len(frames) > 1 else _still(frames[0])
        if len(made) <= MOST_BYTES:
            return made, ".webp" if len(frames) > 1 else ".png"
        frames = [
            frame.resize([max(1, round(SHRINK * side)) for side in frame.size]) for frame in frames
        ]


def _still(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    few = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _animated(frames: Sequence[Image.Image], milliseconds: int) -> bytes:
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=milliseconds or 150,
        loop=0,
        quality=QUALITY,
        method=6,
    )
    return buffer.getvalue()


def drawn(results: Path) -> str:
    """Return the page of what is kept: a section for each part, in it one for each model."""
    order = [SAMPLES, *USES]
    files = (results / "gallery").glob("[!.]*/*.json")
    found = [GalleryPart.read(results, path.parent.name, path.stem) for path in files]
    for part in found:
        require(part.part in order, f"{part.experiment}: part", f"one of {order}", part.part)
    found.sort(key=lambda one: (order.index(one.part), one.dataset, one.experiment))
    sections = [
        (USES.get(name), list(group)) for name, group in groupby(found, key=attrgetter("part"))
    ]
    template = templates.environment(Path(__file__).parent).get_template(TEMPLATE)
    shown = {"duration": wording.duration, "number": tables.number_text}
    return template.render(sections=sections, **shown).rstrip() + "\n"
