"""The walls, one a file; each registers itself."""
