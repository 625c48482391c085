"""One file a kind of corpus; each yields pairs, and what cannot be paired with its reason."""
