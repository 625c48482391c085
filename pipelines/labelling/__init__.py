"""What label writes: tiles of large photos, forms of masks, the list of what to look at."""
