"""Events so small that they can be enumerated or looked through one index after the other."""

import dataclasses

from arcore.columns import Column
from arcore.events import Binary, Levels, Real, Table

NINE = Binary((1, 3, 3))
CUBE = Levels(3, (2, 2, 2))
RGB = Levels(2, (3, 2, 2))
WIDE = Binary((1, 2, 5))
TALL = Levels(2, (2, 3, 2))
ROW = Levels(3, (2, 1, 3))
CLIP = Binary((3, 1, 2, 2))  # the least in which every weight of a video model has a part
COLOURS = Levels(2, (3, 2, 2, 1))
REALS = Real((1, 3, 3))
UNEVEN = Levels([2, 4, 3])
COLUMNS = [
    Column(name="colour", levels=("red", "green", "blue")),
    Column(name="price", mean=1.0, deviation=2.0, unit="EUR"),
    Column(name="doors", levels=4, low=2),
]
TABLE = Table(COLUMNS)
ATOMS = Table([COLUMNS[0], dataclasses.replace(COLUMNS[1], atoms=[0.0, -1.0, 1.5]), COLUMNS[2]])
