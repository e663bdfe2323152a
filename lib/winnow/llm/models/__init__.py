"""Which language model answers: found by folder or id, or a tiny one trained on the spot."""
