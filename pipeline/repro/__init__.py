"""Running DVC's stages side by side, from imports made once, with one line each.

DVC decides what runs and when it is stale. What a stage does is in the other packages.
"""
