"""Data that needs no raw file: scikit-learn's digits, and sounds of a source of known entropy."""
