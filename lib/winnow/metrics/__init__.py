"""Measures of predicted click probabilities (`clicks`) and of lists (`lists`)."""
