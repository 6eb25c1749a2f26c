"""Recommenders that can be opened: one paper a file."""
