"""What the benchmarks share: servers, limits of a device, rows and vectors."""
