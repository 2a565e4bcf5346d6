"""Pure functions without parameters: checks, orderings, masks, pyramids, companding, row noise.

Nothing here is a module with weights, or knows of models.
"""
