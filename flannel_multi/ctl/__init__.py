"""flannelctl: configs, leases and reservations in any store. Talks to stores, never to a running daemon's workers."""
