"""Samples on a page: images, clips, sounds and text, what is real shown once for all models."""

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from pipeline.core.errors import explained
from pipeline.evaluation import audio_figures, image_figures, text_samples
from pipeline.evaluation.result_records import Result
from pipeline.reporting import templates
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.templates import Cell, HtmlTable, Media

COLUMNS = 10
REAL_ROWS = 3
MEMBER_PIXELS = 44  # of an image on the page


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples of one model, or sounds of several that were given the same."""

    title: str = ""
    media: Sequence[Media] = ()
    sounds: HtmlTable | None = None
    text: str = ""


def sections(report: Report) -> list[Samples]:
    """Return the samples of a report, none where there are none."""
    rows = [
        row
        for row in report.rows
        if row.num_averaged == 1
        and not row.approximate
        and row.result.num_folds == 1
        and row.result.split == "test"
    ]
    extents = report.event.shape
    if len(extents) == 1 and extents[0] is None:
        return [*_sounds(rows), *_pictures(rows, _spectrograms), *_texts(rows)]
    if len(extents) == 4:
        return list(_pictures(rows, _clips))
    strips = [row for row in rows if (row.evaluated.folder / "media" / "samples.png").is_file()]
    return [*_strips(strips), *_pictures([row for row in rows if row not in strips], _samples)]


def _strips(rows: Sequence[Row]) -> Iterator[Samples]:
    """Yield the real images once, then strips of samples of each model."""
    for row in rows[:1]:
        real = row.evaluated.folder / "media" / "real.png"
        shown = _strip(real, row, "real test images", num_rows=REAL_ROWS)
        yield Samples(title="Real test images", media=[shown])
    for row in rows:
        yield Samples(title=row.short_name, media=[_drawn_strip(row)])


def _drawn_strip(row: Row) -> Media:
    """Return a strip of samples, with their classes if every member of the model is given them."""
    config, alt = row.evaluated.config, f"samples of {row.short_name}"
    path, labels = row.evaluated.folder / "media" / "samples.png", []
    if config.each_asks("num_classes"):
        labels = [str(index % config.asked("num_classes")) for index in range(COLUMNS)]
        alt += f", each given its class: {', '.join(labels)}"
    return dataclasses.replace(_strip(path, row, alt), labels=labels)


def _strip(path: Path, row: Row, alt: str, num_rows: int = 1) -> Media:
    """Return the first images of a strip in rows of ten, with gaps between them."""
    width = row.evaluated.event.extents[-1]
    with Image.open(path) as picture:
        strip = np.asarray(picture.convert("RGBA"))
    images = [strip[:, at : at + width] for at in range(0, strip.shape[1], width)]
    images = images[: num_rows * COLUMNS]
    columns, height, gap = min(COLUMNS, len(images)), strip.shape[0], max(1, width // 16)
    shape = (-(-len(images) // columns) * (height + gap) - gap, columns * (width + gap) - gap, 4)
    grid = np.zeros(shape, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    buffer = io.BytesIO()
    Image.fromarray(grid).save(buffer, format="PNG")
    across = columns * max(round(MEMBER_PIXELS * width / max(width, height)), width)
    return Media(content=buffer.getvalue(), alt=alt, across=across)


def read_picture(path: Path, alt: str, caption: str) -> Media:
    """Read a PNG file; the caption below it is `alt` if empty."""
    with explained(f"{path}: expected a picture, got", OSError, SyntaxError):
        with Image.open(path) as opened:
            opened.verify()
        return Media(content=path.read_bytes(), alt=alt, caption=caption or alt)


def _pictures(rows: Sequence[Row], read: Callable[[Path, Row], Media]) -> Iterator[Samples]:
    for row in rows:
        path = row.evaluated.folder / "samples.png"
        if path.is_file():
            yield Samples(media=[read(path, row)])


def _samples(path: Path, row: Row) -> Media:
    name, shows = row.short_name, "next to real test rows"
    return read_picture(path, f"samples of {name} {shows}", f"{name}: samples {shows}")


def _spectrograms(path: Path, row: Row) -> Media:
    caption = f"{row.short_name}: spectrograms, drawn above real; brighter is louder, over 70 dB."
    alt = f"spectrograms of {row.short_name}: drawn above, real below"
    return read_picture(path, alt, caption)


def _clips(path: Path, row: Row) -> Media:
    expected = shows_expected(row.result)
    caption = templates.render(
        templates.CLIPS,
        name=row.short_name,
        most=image_figures.MAX_CLIPS,
        frames=row.result.context_frames,
        expected=expected,
        given=image_figures.GIVEN,
        drawn=image_figures.DRAWN,
    )
    versions = "true, expected and drawn" if expected else "true and drawn"
    return read_picture(path, f"clips of {row.short_name}: {versions}", Markup(caption))


def _texts(rows: Sequence[Row]) -> Iterator[Samples]:
    """Yield real text once, then what each model drew."""
    texts = [row.evaluated.folder for row in rows if text_samples.are_in(row.evaluated.folder)]
    for folder in texts[:1]:
        yield Samples(title="Real test text", text=_read_text(folder, "real"))
    for row in rows:
        if row.evaluated.folder in texts:
            yield Samples(title=row.short_name, text=_read_text(row.evaluated.folder, "samples"))


def _read_text(folder: Path, name: str) -> str:
    return text_samples.file_of(folder, name).read_text(encoding="utf-8")


def _sounds(rows: Sequence[Row]) -> Iterator[Samples]:
    """Yield players: the real sounds once where models were given the same."""
    groups: dict[tuple[tuple[str, bytes], ...], list[Row]] = {}
    for row in rows:
        if real := tuple(_real_sounds(row.evaluated.folder / "media")):
            groups.setdefault(real, []).append(row)
    for group in groups.values():
        yield Samples(sounds=_players(group))


def _real_sounds(media: Path) -> Iterator[tuple[str, bytes]]:
    for title in sorted(media.glob("*.txt")):
        real = media / f"{title.stem}-{audio_figures.KINDS[1]}.wav"
        yield title.read_text(encoding="utf-8").strip(), real.read_bytes()


def _players(rows: Sequence[Row]) -> HtmlTable:
    """Return a table of a row for each real sound, with what models drew in its length."""
    drawn, real = audio_figures.KINDS
    media = [row.evaluated.folder / "media" for row in rows]
    header = ["sound", "real", *(row.short_name for row in rows)]
    lines = []
    for number, title in enumerate(sorted(media[0].glob("*.txt")), 1):
        label = title.read_text(encoding="utf-8").strip() or str(number)
        files = [media[0] / f"{title.stem}-{real}.wav"]
        files += [folder / f"{title.stem}-{drawn}.wav" for folder in media]
        players = [
            Media(content=file.read_bytes(), alt=f"{label}, {name}", is_sound=True)
            for file, name in zip(files, header[1:], strict=True)
        ]
        lines.append([Cell(label), *(Cell(one.alt, media=one) for one in players)])
    caption = "Real sounds of the test split, and sounds that models drew in the same lengths"
    return HtmlTable(caption, header, lines)


def shows_expected(result: Result) -> bool:
    """Tell whether samples of clips have expected frames: ensembles have no conditionals."""
    return result.num_members == 1 and result.model != "mixture"
