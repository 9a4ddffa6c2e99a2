"""The engine against other libraries for the curvature of networks; ``python -m benchmarks.peers``."""
