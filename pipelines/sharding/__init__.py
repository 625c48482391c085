"""The exactly-once runner: planned inputs become shards, whatever is killed."""
