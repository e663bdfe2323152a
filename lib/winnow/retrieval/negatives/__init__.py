"""Hard negatives: mined, asked of a language model, filtered, mixed."""
