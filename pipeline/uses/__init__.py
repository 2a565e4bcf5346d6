"""What a trained density model is for: in-painting, compression and others; one use per file.

A use takes trained models and data, and writes files, figures and numbers. It builds on evaluation
and training.
"""
