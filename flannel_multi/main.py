"""The flanneld command: wiring, nothing else."""
