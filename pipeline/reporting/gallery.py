"""Samples on a page: images, clips, sounds and text, what is real shown once for all models."""

import io
from collections.abc import Callable, Iterator, Sequence
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

COLUMNS, ROWS = 5, 2  # of images of one model
IMAGE_PIXELS = 72  # of an image on the page


def pictures(report: Report) -> list[Media]:
    """Return real images or text of a report, if any, and pictures or text that models drew."""
    rows = _sampled(report)
    if report.event.is_open:
        return [*_pictures(rows, _spectrograms), *_texts(rows)]
    if len(report.event.shape) == 4:
        return list(_pictures(rows, _clips))
    strips = [row for row in rows if (row.evaluated.folder / "media" / "samples.png").is_file()]
    return [*_strips(strips), *_pictures([row for row in rows if row not in strips], _samples)]


def sounds(report: Report) -> list[HtmlTable]:
    """Return tables of players: the real sounds once where models were given the same."""
    groups: dict[tuple[tuple[str, bytes], ...], list[Row]] = {}
    for row in _sampled(report):
        if real := tuple(_real_sounds(row.evaluated.folder / "media")):
            groups.setdefault(real, []).append(row)
    return [_players(group) for group in groups.values()]


def _sampled(report: Report) -> list[Row]:
    return [
        row
        for row in report.rows
        if row.num_averaged == 1
        and not row.approximate
        and row.result.num_folds == 1
        and row.result.split == "test"
    ]


def _strips(rows: Sequence[Row]) -> Iterator[Media]:
    """Yield the real images once, then samples of each model, with the classes it was given."""
    for row in rows[:1]:
        real = row.evaluated.folder / "media" / "real.png"
        yield _first_images(real, row, "real test images", "real test images")
    for row in rows:
        config, path = row.evaluated.config, row.evaluated.folder / "media" / "samples.png"
        caption = row.short_name
        if config.each_asks("num_classes"):  # of every member
            classes = (index % config.asked("num_classes") for index in range(ROWS * COLUMNS))
            caption += f", conditioned on class {', '.join(map(str, classes))}"
        yield _first_images(path, row, f"samples of {caption}", caption)


def _first_images(path: Path, row: Row, alt: str, caption: str) -> Media:
    """Return the first images of a strip as a grid, with gaps between them."""
    width = row.evaluated.event.extents[-1]
    with Image.open(path) as picture:
        strip = np.asarray(picture.convert("RGBA"))
    images = [strip[:, at : at + width] for at in range(0, strip.shape[1], width)]
    images = images[: ROWS * COLUMNS]
    columns, height, gap = min(COLUMNS, len(images)), strip.shape[0], max(1, width // 16)
    shape = (-(-len(images) // columns) * (height + gap) - gap, columns * (width + gap) - gap, 4)
    grid = np.zeros(shape, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    buffer = io.BytesIO()
    Image.fromarray(grid).save(buffer, format="PNG")
    across = columns * max(round(IMAGE_PIXELS * width / max(width, height)), width)
    return Media(content=buffer.getvalue(), alt=alt, caption=caption, across=across)


def read_picture(path: Path, alt: str, caption: str) -> Media:
    """Read a PNG file; the caption below it is `alt` if empty."""
    with explained(f"{path}: expected a picture, got", OSError, SyntaxError):
        with Image.open(path) as opened:
            opened.verify()
        return Media(content=path.read_bytes(), alt=alt, caption=caption or alt)


def _pictures(rows: Sequence[Row], read: Callable[[Path, Row], Media]) -> Iterator[Media]:
    for row in rows:
        path = row.evaluated.folder / "samples.png"
        if path.is_file():
            yield read(path, row)


def _samples(path: Path, row: Row) -> Media:
    name, shows = row.short_name, "next to real test rows"
    return read_picture(path, f"samples of {name} {shows}", f"{name}: samples {shows}")


def _spectrograms(path: Path, row: Row) -> Media:
    is_roll = len(row.evaluated.event.shape) > 1
    what = "piano rolls" if is_roll else "spectrograms"
    caption = f"{row.short_name}: {what}, drawn above real"
    caption += "." if is_roll else "; brighter is louder, over 70 dB."
    alt = f"{what} of {row.short_name}: drawn above, real below"
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


def _texts(rows: Sequence[Row]) -> Iterator[Media]:
    """Yield real text once, then what each model drew."""
    texts = [row for row in rows if text_samples.are_in(row.evaluated.folder)]
    for row in texts[:1]:
        yield _read_text(row, "real", "real test text")
    for row in texts:
        yield _read_text(row, "samples", row.short_name)


def _read_text(row: Row, name: str, caption: str) -> Media:
    text = text_samples.file_of(row.evaluated.folder, name).read_text(encoding="utf-8")
    return Media(text=text, alt=caption, caption=caption)


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
