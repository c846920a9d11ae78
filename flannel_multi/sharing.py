"""Memory that a worker shares with its parent again once it has put back what it wrote there; sharing.h says how.

The parent calls `share` before its first fork, a worker `give_back` whenever it is at rest. Both go without where the
kernel refuses: a worker is then larger, and works as well.
"""

from __future__ import annotations

from flannel_multi import _pages


def share() -> int:
    """Moves this process's data into a file in memory that its forks can share again; how many bytes that are.

    Every object that exists now lives as long as the process. The process must have one thread. Raises OSError when
    the kernel refuses; then nothing has changed.
    """
    return _pages.share()


def give_back() -> int:
    """Gives back each page that says again what it said before the fork; how many they were.

    Takes half a millisecond, whatever the process has made since. Does nothing in a process of several threads, or
    where nothing is shared. Raises OSError when /proc does not tell which pages are copies.
    """
    return _pages.give_back()
