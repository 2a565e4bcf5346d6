"""One file per system, named as the lecture names it."""
