"""Kinds of user data: folders of images, arrays, tables and sounds."""
