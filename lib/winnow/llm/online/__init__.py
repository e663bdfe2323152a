"""A language model inside one request, under a deadline and a budget."""
