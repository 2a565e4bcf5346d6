"""Kinds of data of one's own: images, arrays, tables and sounds as people have them."""
