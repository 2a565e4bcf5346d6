"""Results beside published ones, as tables and pages.

Nothing here is measured.
"""
