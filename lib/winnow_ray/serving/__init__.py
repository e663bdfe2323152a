"""A bundle, and the Ray Serve application that answers from it."""
