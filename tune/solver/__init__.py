"""The search for how to solve and perturb with a finished model."""
