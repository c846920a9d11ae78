"""The HTTP side of the server: sockets, limits, TLS, requests and answers. It knows nothing of leases."""
