"""Kinds of user data: folders of images and clips, arrays, tables, sounds and text."""
