"""The model over HTTP: what is taken, what is answered, a page to try it."""
