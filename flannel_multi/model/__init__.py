"""Pure values and decisions: configuration, addresses, leases, allocation, messages. Standard library only."""
