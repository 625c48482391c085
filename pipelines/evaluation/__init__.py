"""Scores of a model and of labels, and the reports that show them."""
