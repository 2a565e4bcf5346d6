"""Abstract bases: raster, two-stack, PixelRNN, orderless, latent-variable and video models.

Nothing here is a system that `create_model` names.
"""
