"""The packet path of the udp backend, as the rest of a worker sees it."""
