"""Running DVC's stages side by side, from imports made once, with a line for each.

What runs and when it is stale is DVC's to say; what a stage does is the other rooms'.
"""
