"""Training on Ray Train and Ray Tune that continues after a kill."""
