"""The endpoint's log lines, which are among those of Ray Serve, and the level of Serve's own."""

import logging

logger = logging.getLogger("ray.serve.winnow")
logger.setLevel(logging.INFO)  # Serve sets the level of "ray.serve", by `QUIET`

QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Serve's `logging_config`. At INFO it builds a line per request even where it drops it."""
