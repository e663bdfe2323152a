"""Whether negatives of an LLM help: runs and the table of them."""
