"""The same model as a pipeline of diffusers, and where model folders come from."""
