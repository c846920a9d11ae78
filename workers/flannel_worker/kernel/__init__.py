"""Want, have, plan, apply: the one place that speaks netlink. Knows nothing of leases."""
