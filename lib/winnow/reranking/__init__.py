"""The last stage: reorders what was ranked, and never adds, drops or repeats an item."""
