"""What a trained density model is for: in-painting, compression and others; one use per file.

It stands on evaluation and training: a use takes trained models and data, and leaves files, figures
and numbers.
"""
