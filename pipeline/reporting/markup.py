"""Pieces of HTML that every page is made of: escaped, self-contained, and readable aloud."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #4a5866; --line: #d5dce4;
  --paper: #fff; --band: #f1f4f8; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ef; --soft: #a9b5c1; --line: #36424e;
  --paper: #12181f; --band: #1c252e; --link: #7cb8f7; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; margin: 0 auto; max-width: 78rem;
  padding: 1rem; color: var(--ink); background: var(--paper); }
h1 { margin: .2rem 0; overflow-wrap: anywhere; } h2 { margin: 2.2rem 0 .4rem; }
h3 { margin: 1.2rem 0 .3rem; overflow-wrap: anywhere; }
p, figcaption, caption, .soft { color: var(--soft); }
p { max-width: 50rem; margin: .4rem 0; overflow-wrap: anywhere; }
a { color: var(--link); } :focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: 14px; }
nav a { padding: .2rem 0; }
.scroll { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: separate; border-spacing: 0; font-size: 14px;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .2rem 0; font-size: 13px; }
caption span { display: inline-block; position: sticky; left: 0; max-width: min(50rem, 90vw); }
th, td { padding: .32rem .55rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { background: var(--band); vertical-align: bottom; }
tbody th { font-weight: 500; }
tr > th:first-child { position: sticky; left: 0; background: var(--paper); z-index: 1;
  min-width: 8.5rem; max-width: 17rem; overflow-wrap: anywhere;
  border-right: 1px solid var(--line); }
thead tr > th:first-child { background: var(--band); }
td.number { white-space: nowrap; }
small { color: var(--soft); display: block; font-size: 12px; white-space: nowrap; }
figure { margin: .6rem 0 1.2rem; } figcaption { font-size: 13px; max-width: 50rem; }
img { max-width: 100%; height: auto; display: block; }
.pixels { image-rendering: pixelated; }
.strip { display: grid; max-width: 100%; font-size: 12px; text-align: center; }
.swatch { display: inline-block; width: .8em; height: .8em; vertical-align: -.05em; }
audio { height: 34px; width: 230px; max-width: 60vw; vertical-align: middle; }
details { border-top: 1px solid var(--line); } summary { padding: .35rem 0; cursor: pointer;
  overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(6rem, 9rem) minmax(0, 1fr); gap: .15rem .8rem;
  margin: .2rem 0 1rem; font-size: 14px; scroll-margin-top: 3rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
@media (max-width: 480px) { body { padding: .7rem; } th, td { padding: .3rem .4rem; }
  tr > th:first-child { max-width: 9rem; } }
@media print { .scroll { overflow: visible; } }
"""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it says; a value without line breaks where `number`.
        note: in small print below it.
        link: where it leads, or nothing.
        number: whether its text is kept on one line.
    """

    text: str
    note: str = ""
    link: str = ""
    number: bool = False


def escape(text: str) -> str:
    """Return text that is text in HTML, too."""
    return html.escape(text)


def breakable(name: str) -> str:
    """Return a name, escaped, that may be broken after its hyphens and underscores.

    Example:
        >>> breakable("a_b-<c>")
        'a_<wbr>b-<wbr>&lt;c&gt;'
    """
    return re.sub(r"([-_])", r"\1<wbr>", html.escape(name))


def identifier(name: str) -> str:
    """Return a name as the id of an element.

    Example:
        >>> identifier("digits-made (a member)")
        'digits-made-a-member'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")


def link(address: str, text: str) -> str:
    """Return a link, escaped."""
    return f'<a href="{html.escape(address)}">{html.escape(text)}</a>'


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str) -> str:
    """Return a table whose first column stays in sight, in a region that scrolls by keyboard."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    lines = [
        "<tr>" + "".join(_cell(cell, index == 0) for index, cell in enumerate(row)) + "</tr>"
        for row in rows
    ]
    label = html.escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>\n'
        f"<caption><span>{label}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table></div>"
    )


def _cell(cell: Cell, first: bool) -> str:
    text = breakable(cell.text) if first else html.escape(cell.text)
    if cell.link:
        text = f'<a href="{html.escape(cell.link)}">{text}</a>'
    if cell.note:
        text += f"<small>{html.escape(cell.note)}</small>"
    if first:
        return f'<th scope="row">{text}</th>'
    return f'<td class="number">{text}</td>' if cell.number else f"<td>{text}</td>"


def data_uri(kind: str, content: bytes) -> str:
    """Return a `data:` address of some content.

    Example:
        >>> data_uri("image/png", b"png")
        'data:image/png;base64,cG5n'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def swatch(color: tuple[int, int, int]) -> str:
    """Return a little square of a colour that a picture has.

    Example:
        >>> swatch((15, 118, 110))
        '<span class="swatch" style="background:#0f766e"></span>'
    """
    red, green, blue = color
    return f'<span class="swatch" style="background:#{red:02x}{green:02x}{blue:02x}"></span>'


def figure(image: str, caption: str) -> str:
    """Return a figure of an image's markup; the caption is markup too."""
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def origin(lines: Sequence[tuple[str, str]]) -> list[str]:
    """Return the section that says where a page comes from: terms, and what they are, in HTML."""
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{text}</dd>" for term, text in lines)
    return ["<h2>Where it comes from</h2>", f"<dl>{terms}</dl>"]


def drawing(wide: bytes, narrow: bytes, alt: str) -> str:
    """Return an SVG image that has another shape on narrow screens."""
    small, large = data_uri("image/svg+xml", narrow), data_uri("image/svg+xml", wide)
    return (
        f'<picture><source media="(max-width: 640px)" srcset="{small}">'
        f'<img alt="{html.escape(alt)}" src="{large}"></picture>'
    )


def page(title: str, body: Sequence[str]) -> str:
    """Return a whole page."""
    content = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body>\n{content}\n</body></html>\n"
    )
