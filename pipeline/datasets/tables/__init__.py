"""Rows of bits and of reals out of tables: one module a family of datasets."""
