"""Comparisons that are no single training, use or search; one kind of study per file.

A study trains what networks it needs, and leaves a table, plots and a page of its own.
"""
