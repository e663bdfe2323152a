"""Bundles in a replica: loaded, swapped, and the plan of who gets which."""
