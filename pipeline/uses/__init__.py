"""What a trained density model is for: compression here; one use per file.

It stands on evaluation and training: a use takes trained models and data, and leaves files, figures
and numbers.
"""
