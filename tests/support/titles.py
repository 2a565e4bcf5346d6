"""Whether titles of a figure's panels can be read."""

from collections.abc import Iterator
from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def overlapping(figure: Figure) -> Iterator[tuple[str, str]]:
    """Yield the titles that run into each other, or over the figure's edge, once it is drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [
        (axes.get_title(), axes.title.get_window_extent(renderer))
        for axes in figure.axes
        if isinstance(axes, Axes) and axes.get_title()
    ]
    for (one, first), (other, second) in combinations(boxes, 2):
        if first.overlaps(second):
            yield one, other
    for title, box in boxes:
        if box.x0 < 0 or box.x1 > figure.bbox.x1 or box.y1 > figure.bbox.y1:
            yield title, "the edge"
