"""Pictures of strangers, decoded and encoded in processes that can be ended."""
