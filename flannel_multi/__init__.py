"""The parent process, the commands, and what parent and workers share."""

__version__ = "0.1.0"
