"""The latent dataset: its contract, how it is made, looked at and checked."""
