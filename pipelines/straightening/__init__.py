"""Reflow: rows coupled by a model's own flow."""
