"""The endpoint's own log lines, among those of Ray Serve, and how Serve's are kept few."""

import logging

logger = logging.getLogger("ray.serve.winnow")
logger.setLevel(logging.INFO)  # Serve sets the level of "ray.serve", by `QUIET`

QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Serve makes its line for each request and then throws it away, unless its level is above INFO."""
