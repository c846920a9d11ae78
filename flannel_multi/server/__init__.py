"""`flanneld --listen`: flannel's HTTP protocol v1 (spec §6) over any lease store."""
