r"""Draw a Mermaid flowchart of a page as a picture of the site, without Mermaid's script.

A box is a row or more below the boxes with an arrow to it. An arrow across rows has a point in
each, so that it passes between boxes. Only `a --> b --> c` and `a[label]` are known.

Example:
    >>> flowchart("flowchart TD\n  a[one] --> b").count("<rect")
    2
"""

import re
from collections import defaultdict

ROW, BOX, GAP, LETTER = 62.0, 30.0, 18.0, 8.0  # heights of a row and a box; widths
SWEEPS = 40
TIP = (
    '<marker id="tip" markerWidth="8" markerHeight="8" refX="8" refY="4" orient="auto">'
    '<path d="M0 0 8 4 0 8z"/></marker>'
)
Arrow = tuple[str, str]


def flowchart(source: str) -> str:
    """Return the SVG of a flowchart, in colours of the page that it is put into."""
    labels, arrows = parse(source)
    rows = in_rows(labels, arrows)
    paths = [[above, *points, below] for (above, below), points in split(arrows, rows).items()]
    steps = [step for path in paths for step in zip(path, path[1:], strict=False)]
    width = {name: LETTER * len(labels[name]) + 18 if name in labels else 4.0 for name in rows}
    x = across(rows, steps, width)
    left = min(x[name] - width[name] / 2 for name in x) - 4
    right = max(x[name] + width[name] / 2 for name in x) + 4
    height = ROW * max(rows.values()) + BOX + 8
    parts = [curve([(x[name], ROW * rows[name] + 4) for name in path]) for path in paths]
    parts += [box(labels[n], x[n] - width[n] / 2, ROW * rows[n] + 4, width[n]) for n in labels]
    wide = right - left
    spoken = "; ".join(f"{labels[above]} to {labels[below]}" for above, below in arrows)
    return (
        f'<div class="flowchart"><svg viewBox="{left:.0f} 0 {wide:.0f} {height:.0f}" '
        f'width="{wide:.0f}" style="min-width: {0.85 * wide:.0f}px" '
        f'role="img" aria-label="{spoken}">'
        f"<defs>{TIP}</defs>{''.join(parts)}</svg></div>"
    )


def parse(source: str) -> tuple[dict[str, str], list[Arrow]]:
    """Return the boxes' labels and the arrows, by the boxes' names."""
    labels: dict[str, str] = {}
    arrows = []
    for line in source.strip().splitlines()[1:]:
        found = [re.fullmatch(r"(\w+)(?:\[(.+)\])?", part.strip()) for part in line.split("-->")]
        if None in found:
            raise ValueError(f"flowchart: expected a --> b or a[label], got {line!r}")
        names = [match[1] for match in found if match]
        for match in filter(None, found):
            labels[match[1]] = match[2] or labels.get(match[1], match[1])
        arrows += zip(names, names[1:], strict=False)
    return labels, arrows


def in_rows(labels: dict[str, str], arrows: list[Arrow]) -> dict[str, int]:
    """Return the row of each box: below all boxes with an arrow to it, and as low as may be."""
    rows = dict.fromkeys(labels, 0)
    for _ in labels:
        for above, below in arrows:
            rows[below] = max(rows[below], rows[above] + 1)
    for _ in labels:
        for above in {above for above, _ in arrows}:
            rows[above] = min(rows[below] for start, below in arrows if start == above) - 1
    return rows


def split(arrows: list[Arrow], rows: dict[str, int]) -> dict[Arrow, list[str]]:
    """Return the points of each arrow in the rows that it crosses, and put them into `rows`."""
    points: dict[Arrow, list[str]] = {}
    for above, below in arrows:
        crossed = range(rows[above] + 1, rows[below])
        points[above, below] = [f"{above} {below} {row}" for row in crossed]
        rows |= zip(points[above, below], crossed, strict=True)
    return points


def across(rows: dict[str, int], steps: list[Arrow], width: dict[str, float]) -> dict[str, float]:
    """Return each box's and point's middle: near what it is joined to, and clear of its row."""
    joined = defaultdict(list)
    for above, below in steps:
        joined[above].append(below)
        joined[below].append(above)
    row_of = defaultdict(list)
    for name, row in rows.items():
        row_of[row].append(name)
    x = {name: 90.0 * place for row in row_of.values() for place, name in enumerate(row)}
    for _ in range(SWEEPS):
        for row in (*sorted(row_of), *sorted(row_of, reverse=True)):
            names = row_of[row]
            wanted = {n: sum(x[o] for o in joined[n]) / max(1, len(joined[n])) for n in names}
            names.sort(key=wanted.__getitem__)
            placed = dict(wanted)
            for before, name in zip(names, names[1:], strict=False):
                least = placed[before] + (width[before] + width[name]) / 2 + GAP
                placed[name] = max(placed[name], least)
            shift = sum(wanted[n] - placed[n] for n in names) / len(names)
            x |= {name: placed[name] + shift for name in names}
    return x


def curve(points: list[tuple[float, float]]) -> str:
    """Return an arrow through points, each the top of a box or of a row's place."""
    (x, y), *rest = points
    drawn = f"M{x:.0f} {y + BOX:.0f}"
    for below_x, below_y in rest:
        middle = (y + BOX + below_y) / 2
        drawn += f"C{x:.0f} {middle:.0f} {below_x:.0f} {middle:.0f} {below_x:.0f} {below_y:.0f}"
        drawn += f"V{below_y + BOX:.0f}" if (below_x, below_y) != rest[-1] else ""
        x, y = below_x, below_y
    return f'<path class="arrow" d="{drawn}" marker-end="url(#tip)"/>'


def box(label: str, x: float, y: float, width: float) -> str:
    """Return a box with a label."""
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{BOX:.0f}" rx="4"/>'
        f'<text x="{x + width / 2:.0f}" y="{y + BOX / 2 + 5:.0f}">{label}</text>'
    )
