"""What a training is made of: the feed, the loop, the engine, checkpoints, validation."""
