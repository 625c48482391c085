"""The flow: paths between image and mask latents, solvers, and what training minimises."""
