"""The uses by name, for command lines: what each shows and what it needs."""

from __future__ import annotations

from dataclasses import dataclass

ALL = "all"


@dataclass(frozen=True)
class Use:
    """A use in words.

    Attributes:
        title: as a heading.
        shows: what is shown and measured.
        needs: of a model and data.
    """

    title: str
    shows: str
    needs: str


USES = {
    "inpainting": Use(
        "In-painting",
        "completions of masked test images; nats of the missing pixels given the observed",
        "an exact model of images in levels",
    ),
}


def text_of() -> str:
    """Return what `python -m stages.use` lists."""
    width = max(map(len, USES))
    lines = ["USE is one of:"]
    for name, use in USES.items():
        lines += [f"  {name:{width}}  {use.shows};", f"  {'':{width}}  needs {use.needs}"]
    lines.append(f"  {ALL:{width}}  those that `uses` in params.yaml has for the experiment")
    return "\n".join(lines)
