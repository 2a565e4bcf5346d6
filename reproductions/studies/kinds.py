"""The kinds of studies by name, in words: `kinds.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class StudyKind:
    """A kind of study in words.

    Attributes:
        title: as a heading.
        compares: what is compared.
        needs: of its entry.
    """

    title: str
    compares: str
    needs: str


_FILE = Path(__file__).with_name("kinds.yaml")
KINDS = {
    name: StudyKind(**words) for name, words in yaml.safe_load(_FILE.read_text("utf-8")).items()
}


def text_of() -> str:
    """Return what the help of `python -m reproductions.study` lists."""
    width = max(map(len, KINDS))
    lines = ["the kinds of studies, of which an entry names one:"]
    for name, kind in KINDS.items():
        lines += [f"  {name:{width}}  {kind.compares};", f"  {'':{width}}  needs {kind.needs}"]
    return "\n".join(lines)
