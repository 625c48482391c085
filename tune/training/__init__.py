"""The search for how to train."""
