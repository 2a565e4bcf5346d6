"""One table of numbers, and the templates that draw it.

`numbers` returns everything that a dataset's experiments measured, with the published values, as a
pandas frame. Markdown, CSV, terminal and HTML tables are templates over the frame. Nothing here is
measured.
"""
