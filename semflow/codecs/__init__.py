"""How class ids become latents that a flow can end at, and are read back."""
