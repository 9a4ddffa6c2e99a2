"""Models from the hub: fetched as data into the store of files, by a worker that does nothing else."""
