"""Protocols to results: scores, samples, codecs, cross-validation.

Nothing here prints a table or registers a model.
"""
