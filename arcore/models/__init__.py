"""The systems, one final class a file, named as the lecture names them."""
