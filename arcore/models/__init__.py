"""The systems, one final class per file, named as the lecture names them."""
