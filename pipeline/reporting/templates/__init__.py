"""The templates of tables and pages (Jinja2), and what renders them."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

REPORT, INDEX, SEARCH = "report.html.j2", "index.html.j2", "search.html.j2"
MARKDOWN, LEGEND, TERMINAL = "report.md.j2", "legend.txt.j2", "terminal.txt.j2"
CLIPS = "clips.html.j2"
SHARED = ("page.html.j2", "parts.html.j2", "uses.html.j2", "style.css", "page.js", "charts.js")


@dataclass(frozen=True, kw_only=True)
class Media:
    """A picture, a sound or a text on a page."""

    content: bytes = b""  # of a PNG or WAV file
    text: str = ""  # in place of a file
    alt: str
    caption: str = ""
    across: int = 0  # width on the page in pixels of small images
    is_sound: bool = False


@dataclass(frozen=True)
class Cell:
    """A text, e.g. in a table, with a note in small print, a link, or a sound in its place."""

    text: str
    note: str = ""
    link: str = ""
    media: Media | None = None


@dataclass(frozen=True)
class HtmlTable:
    """A table of a page, whose first column stays in sight."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


Terms = list[tuple[str, str | Sequence[Cell]]]  # what is known, by name


def text_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> HtmlTable:
    """Return a table of texts."""
    return HtmlTable(caption, header, [[Cell(text) for text in row] for row in rows])


def identifier(name: str) -> str:
    """Return a name as the id of an element.

    Example:
        >>> identifier("digits-made (a member)")
        'digits-made-a-member'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")


def data_uri(content: bytes, kind: str) -> str:
    """Return a `data:` address of some content.

    Example:
        >>> data_uri(b"png", "image/png")
        'data:image/png;base64,cG5n'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def sentence(text: str) -> str:
    """Return a phrase as a sentence.

    Example:
        >>> sentence("the lower half is missing")
        'The lower half is missing.'
    """
    return text[:1].upper() + text[1:].rstrip(".") + "."


def markdown_text(cell: str) -> str:
    r"""Keep a cell's text from being read as a border, a line break or HTML; "<=" is none.

    Example:
        >>> markdown_text("<= 1 | <b>")
        '<= 1 \\| &lt;b>'
    """
    plain = " ".join(cell.split()).replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", plain)


def render(template: str, **values: object) -> str:
    """Render a template; texts are escaped in HTML."""
    return _ENVIRONMENT.get_template(template).render(values)


def environment(folder: Path) -> jinja2.Environment:
    """Return the Jinja2 environment of a folder of templates, with the filters of this module."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "identifier": identifier,
        "data_uri": data_uri,
        "sentence": sentence,
        "markdown_text": markdown_text,
    }
    return made


_ENVIRONMENT = environment(Path(__file__).parent)
