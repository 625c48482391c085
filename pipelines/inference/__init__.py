"""A finished model at work in actors, and what products have in common."""
