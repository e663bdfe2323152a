"""What a language model is asked, one module a task."""
