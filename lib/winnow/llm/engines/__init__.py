"""Engines: their contract, endpoints over HTTP, restarts, and how often each level retries."""
