"""Samples on a page: images, clips and sounds, what is real shown once for all models."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.core.errors import UserError, one_line
from pipeline.evaluation import audio_figures, video_figures
from pipeline.evaluation.results import Result
from pipeline.reporting import markup, wording
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.markup import escape

COLUMNS = 10
REAL_ROWS = 3
MEMBER_PIXELS = 44  # of an image on the page
HEARD_SECONDS, GAP_SECONDS = 1.5, 0.06


def gallery(report: Report) -> list[str]:
    """Return the sections of samples of a report, none where there are none."""
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
        return _sounds(rows, report.dataset)
    if len(extents) == 4:
        return _clips(rows, report.dataset)
    images = [row for row in rows if (row.evaluated.folder / "media" / "samples.png").is_file()]
    others = [row for row in rows if row not in images]
    parts = _images(images, report.dataset) if len(extents) == 3 and images else []
    return parts + _pictures(others, report.dataset)


def _name(row: Row, dataset: str) -> str:
    return wording.short_name(row.result.experiment, dataset)


def _images(rows: Sequence[Row], dataset: str) -> list[str]:
    """Return the real images once, then a row of samples of each model."""
    extents = rows[0].evaluated.event.extents
    width = extents[2]
    real = rows[0].evaluated.folder / "media" / "real.png"
    parts = ["<h3>Real test images</h3>", _strip(real, width, REAL_ROWS, "real test images")]
    for row in rows:
        name, classes = _name(row, dataset), _num_classes(row)
        titles = sorted((row.evaluated.folder / "media").glob("*.png"))
        parts.append(f"<h3>{markup.breakable(name)}</h3>")
        for path in sorted(titles, key=lambda path: path.stem != "samples"):
            if path.stem == "real":
                continue
            said = f"samples of {name}"
            if path.stem != "samples":
                note = path.stem.replace("_", " ")
                parts.append(f'<p class="soft">{escape(note)}:</p>')
                said += f", {note}"
                parts.append(_strip(path, width, 1, said))
            elif classes is not None:
                labels = [str(index % classes) for index in range(COLUMNS)]
                said += f", each given its class: {', '.join(labels)}"
                parts.append(_strip(path, width, 1, said, labels))
            else:
                parts.append(_strip(path, width, 1, said))
    return parts


def _num_classes(row: Row) -> int | None:
    found = row.evaluated.config.asked("num_classes")
    return found if isinstance(found, int) else None


def _strip(path: Path, width: int, rows: int, alt: str, labels: Sequence[str] = ()) -> str:
    """Return the first images of a strip in rows of ten, with labels above the first row."""
    with Image.open(path) as picture:
        strip = np.asarray(picture)
    images = [strip[:, at : at + width] for at in range(0, strip.shape[1], width)]
    images = images[: rows * COLUMNS]
    columns = min(COLUMNS, len(images))
    height = strip.shape[0]
    count = -(-len(images) // columns)
    gap = max(1, width // 16)
    shape = (count * (height + gap) - gap, columns * (width + gap) - gap, 4)
    grid = np.zeros(shape, np.uint8)
    for index, image in enumerate(images):
        colours = image[..., None].repeat(3, -1) if image.ndim == 2 else image
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[top : top + height, left : left + width, :3] = colours
        grid[top : top + height, left : left + width, 3] = 255
    buffer = io.BytesIO()
    Image.fromarray(grid).save(buffer, format="PNG")
    across = columns * max(MEMBER_PIXELS, width)
    above = ""
    if labels:
        spans = "".join(f"<span>{escape(label)}</span>" for label in labels[:columns])
        above = (
            f'<div class="strip" aria-hidden="true" style="width:{across}px;'
            f'grid-template-columns:repeat({columns},1fr)">{spans}</div>'
        )
    source = markup.data_uri("image/png", buffer.getvalue())
    return f'{above}<img class="pixels" width="{across}" alt="{escape(alt)}" src="{source}">'


def _pictures(rows: Sequence[Row], dataset: str) -> list[str]:
    """Return the pictures that evaluations drew of samples beside real rows."""
    parts = []
    for row in rows:
        path = row.evaluated.folder / "samples.png"
        if path.is_file():
            name = _name(row, dataset)
            caption = f"{markup.breakable(name)}: samples beside real test rows"
            parts.append(_picture(path, f"samples of {name} beside real test rows", caption))
    return parts


def _picture(path: Path, alt: str, caption: str) -> str:
    """Return a figure of a PNG file."""
    source = markup.data_uri("image/png", path.read_bytes())
    return markup.figure(f'<img alt="{escape(alt)}" src="{source}">', caption)


def file(path: Path, caption: str) -> str:
    """Return the figure of a PNG file.

    Raises:
        UserError: naming a file that is missing or damaged.
    """
    try:
        return markup.figure(picture(path.read_bytes(), caption), escape(caption))
    except OSError as error:
        raise UserError(f"{path}: expected a picture, got {one_line(error)}") from None


def picture(content: bytes, alt: str) -> str:
    """Return the element of a PNG; an animated one is still where a reader asks for less motion."""
    element = f'<img alt="{escape(alt)}" src="{markup.data_uri("image/png", content)}">'
    still = io.BytesIO()
    with Image.open(io.BytesIO(content)) as opened:
        if not getattr(opened, "is_animated", False):
            return element
        opened.convert("RGB").save(still, format="PNG")
    source = markup.data_uri("image/png", still.getvalue())
    less = f'<source media="(prefers-reduced-motion: reduce)" srcset="{source}">'
    return f"<picture>{less}{element}</picture>"


def _clips(rows: Sequence[Row], dataset: str) -> list[str]:
    """Return the animated pictures of clips."""
    parts = []
    for row in rows:
        path = row.evaluated.folder / "samples.png"
        if not path.is_file():
            continue
        frames = row.result.context_frames
        name, content = _name(row, dataset), path.read_bytes()
        expected = shows_expected(row.result)
        versions = "true, expected and drawn" if expected else "true and drawn"
        image = picture(content, f"clips of {name}: {versions}")
        given = (
            f"the first {frames} frames, which are given" if frames else "no frame: none is given"
        )
        middle = "Middle row: what the model expects of each frame, given the true ones before. "
        between = middle if expected else ""
        caption = (
            f"{markup.breakable(name)}: up to {video_figures.MAX_CLIPS} test clips, one a column. "
            f"Top row: the true clip. {between}Bottom row: frames drawn from the model, each given "
            f"those that it drew before. Border {markup.swatch(video_figures.GIVEN)} teal: true "
            f"frames (the top row; below it, {given}). Border {markup.swatch(video_figures.DRAWN)} "
            "orange: the model's frames."
        )
        parts.append(markup.figure(image, caption))
    return parts


def _sounds(rows: Sequence[Row], dataset: str) -> list[str]:
    """Return players, the real sounds once where models were given the same, and spectrograms."""
    groups: dict[tuple[tuple[str, bytes], ...], list[Row]] = {}
    for row in rows:
        if real := _real_sounds(row):
            groups.setdefault(real, []).append(row)
    parts = [part for real, group in groups.items() for part in _players(real, group, dataset)]
    for row in rows:
        path = row.evaluated.folder / "samples.png"
        if path.is_file():
            name = _name(row, dataset)
            caption = (
                f"{markup.breakable(name)}: spectrograms, drawn above real; brighter is "
                "louder, over 70 dB."
            )
            alt = f"spectrograms of {name}: drawn above, real below"
            parts.append(_picture(path, alt, caption))
    return parts


def _real_sounds(row: Row) -> tuple[tuple[str, bytes], ...]:
    media = row.evaluated.folder / "media"
    _, real = audio_figures.KINDS
    return tuple(
        (
            title.read_text(encoding="utf-8").strip(),
            read_sound(media / f"{title.stem}-{real}.wav"),
        )
        for title in sorted(media.glob("*.txt"))
    )


def _players(real: tuple[tuple[str, bytes], ...], rows: Sequence[Row], dataset: str) -> list[str]:
    drawn, _ = audio_figures.KINDS
    names = [_name(row, dataset) for row in rows]
    header = ["speaker, text" if any(title for title, _ in real) else "sound", "real", *names]
    media = [row.evaluated.folder / "media" for row in rows]
    stems = [path.stem for path in sorted(media[0].glob("*.txt"))]
    seconds = [_seconds(content) for _, content in real]
    lines = []
    for stem, (title, content) in zip(stems, real, strict=True):
        label = title or f"{int(stem) + 1 if stem.isdigit() else stem}"
        sounds = [content, *(read_sound(folder / f"{stem}-{drawn}.wav") for folder in media)]
        cells = "".join(
            f"<td>{_player(sound, f'{label}, {name}')}</td>"
            for sound, name in zip(sounds, ["real", *names], strict=True)
        )
        lines.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    caption = f"Real sounds of the test split of {min(seconds):.2f} to {max(seconds):.2f} s, "
    caption += "and sounds that models drew in the same lengths."
    if min(seconds) < HEARD_SECONDS:
        caption += f" Sounds below {HEARD_SECONDS:g} s are repeated, with pauses, to be heard."
    text = escape(caption)
    head = "".join(f'<th scope="col">{markup.breakable(name)}</th>' for name in header)
    return [
        f'<div class="scroll" tabindex="0" role="region" aria-label="Sounds"><table>'
        f"<caption><span>{text}</span></caption><thead><tr>{head}</tr></thead><tbody>",
        *lines,
        "</tbody></table></div>",
    ]


def _player(content: bytes, label: str) -> str:
    source = markup.data_uri("audio/wav", repeated(content))
    return f'<audio controls preload="none" aria-label="{escape(label)}" src="{source}"></audio>'


def shows_expected(result: Result) -> bool:
    """Tell whether samples of clips have expected frames: ensembles have no conditionals."""
    return result.num_members == 1 and result.model != "mixture"


def read_sound(path: Path) -> bytes:
    """Read a WAV file.

    Raises:
        UserError: naming the file that is none.
    """
    content = path.read_bytes()
    try:
        _seconds(content)
    except (wave.Error, EOFError, ZeroDivisionError) as error:
        raise UserError(f"{path}: expected a WAV file, got {one_line(error)}") from None
    return content


def _seconds(content: bytes) -> float:
    with wave.open(io.BytesIO(content)) as sound:
        return float(sound.getnframes() / sound.getframerate())


def repeated(content: bytes) -> bytes:
    """Repeat a short sound, a WAV file, with pauses until it is long enough to be heard."""
    with wave.open(io.BytesIO(content)) as sound:
        parameters, frames = sound.getparams(), sound.readframes(sound.getnframes())
    rate, length = parameters.framerate, max(1, parameters.nframes)
    if length >= HEARD_SECONDS * rate:
        return content
    silence = b"\x80" if parameters.sampwidth == 1 else bytes(parameters.sampwidth)
    gap = silence * parameters.nchannels * round(GAP_SECONDS * rate)
    times = -(-round(HEARD_SECONDS * rate) // length)
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams(parameters)
        sound.writeframes(gap.join([frames] * times))
    return out.getvalue()
