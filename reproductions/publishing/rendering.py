"""The templates of the gallery's page and of curves, and files that are written if they changed."""

from __future__ import annotations

from pathlib import Path

from pipeline.core import atomic
from pipeline.reporting import templates, use_sections, wording

GALLERY, CURVES = "gallery.md.j2", "curves.svg.j2"


def render(template: str, **values: object) -> str:
    """Render a template; texts are escaped in SVG."""
    return _ENVIRONMENT.get_template(template).render(values)


def write_if_changed(path: Path, text: str) -> Path | None:
    """Write a file unless it has that text; return it if it changed."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return None
    atomic.write_text(path, text)
    return path


_ENVIRONMENT = templates.environment(Path(__file__).parent / "page_templates", ".svg.j2")
_ENVIRONMENT.filters |= {"duration": wording.duration, "number": use_sections.text_of}
