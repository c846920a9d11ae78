"""Thousands of connections from a process of its own: `python many.py PORT COUNT BYTES-IN-HEX`.

Says `open` when all are, holds them without reading until its input ends, and then how many the server has cut.
"""

from __future__ import annotations

import resource
import select
import socket
import sys

port, count, data = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
socks = []
for number in range(count):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.bind((f"127.0.1.{1 + number // 5000}", 0))
    sock.connect(("127.0.0.1", port))
    if data:
        sock.send(data)
    socks.append(sock)
print("open", flush=True)
sys.stdin.read()
poll = select.poll()
for sock in socks:
    poll.register(sock, select.POLLRDHUP)
print(len(poll.poll(0)), flush=True)
