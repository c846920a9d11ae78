"""The life of one network, in a process of its own."""
