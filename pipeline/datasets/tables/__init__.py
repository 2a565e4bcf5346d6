"""Rows of bits and of reals out of tables: one module per family of datasets."""
