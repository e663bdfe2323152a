"""Finding the language model that answers by folder or id, or training a tiny one."""
