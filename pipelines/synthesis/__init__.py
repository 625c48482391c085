"""What synthesize writes: edited masks, images that show their masks, a dataset and its card."""
