"""Removing the neurons that do nothing, with a proof."""
