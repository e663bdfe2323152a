"""A study of whether LLM negatives help: its runs and their table."""
