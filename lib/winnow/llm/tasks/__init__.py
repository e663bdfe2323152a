"""The questions that a language model is asked, one module per task."""
