"""Scores: of masks, and of images through networks whose weights are found or fetched."""
