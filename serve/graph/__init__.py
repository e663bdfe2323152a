"""One request through the three stages: fused in one replica, or split over deployments."""
