"""Bundles in a replica: loaded, swapped, and the plan of which bundle answers which users."""
