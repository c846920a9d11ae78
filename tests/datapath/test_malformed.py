"""A million datagrams of nothing in particular at full rate: the path stays up, counts each, and serves its peers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.datapath import traffic
from tests.datapath.site import RUNNERS, End, PlainPeer, Site
from tests.lab.world import Host

NOISE = 1_000_000
REFUSED = ("in_too_short", "in_not_ipv4", "in_bad_header", "in_wrong_length")
BY_KERNEL = ("bpf_in_received", "bpf_in_ttl")  # its verdicts on what the socket never sees
HERE = Path(__file__).parent


def built(tmp_path: Path) -> str:
    program = tmp_path / "noise"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", HERE / "noise.c", "-o", program], check=True)
    return str(program)


def udp_statistics(host: Host) -> dict[str, int]:
    """The host's counters of UDP (RFC 4113, as /proc/net/snmp shows them)."""
    names, values = (line.split()[1:] for line in host.run("cat", "/proc/net/snmp").splitlines() if line[:4] == "Udp:")
    return dict(zip(names, map(int, values), strict=True))


@pytest.mark.parametrize("path", ["user", "bpf"])
def test_a_million_malformed_datagrams_are_counted_and_harm_nobody(path: str, tmp_path: Path) -> None:
    """Those for the kernel's own path come as it would send them, without checksums: any other it does not look at."""
    noise, bare = built(tmp_path), ["bare"] if path == "bpf" else []
    with (
        Site() as site,
        End(site.a, {"10.77.2.0/24": site.b.address}, runner=RUNNERS[path]) as end,
        PlainPeer(site.b, {"10.77.1.0/24": site.a.address}) as peer,
    ):
        end.start()
        sender = site.b.spawn(noise, site.a.address, str(NOISE), "1", *bare)
        answered = 0
        while sender.poll() is None:  # the socket's queue is full most of the time: some of ours are among the lost
            answered += traffic.answered_pings(site.a, peer.overlay, 50, patience_s=0.02)
        assert sender.wait() == 0
        assert answered > 100, "our traffic flowed through the flood"
        assert traffic.answered_pings(site.a, peer.overlay, 200, patience_s=5.0) == 200
        counters, there, here = end.counters(), udp_statistics(site.b), udp_statistics(site.a)
        judged = sum(value for name, value in counters.items() if name.startswith("in_") and name != "in_bytes")
        print(f"sent {there['OutDatagrams']}, received {judged}, lost in the queue {here['RcvbufErrors']}, {answered=}")
        taken = sum(counters.get(name, 0) for name in BY_KERNEL)
        assert here["InDatagrams"] + here["RcvbufErrors"] + taken == there["OutDatagrams"] > NOISE
        assert judged == here["InDatagrams"]
        refused = (*REFUSED, *BY_KERNEL) if bare else (*REFUSED, "in_ttl")
        assert all(counters[name] > NOISE // 1000 for name in refused), counters
        assert end.ask("failed") == 0
        assert traffic.wrong_echoes(site.a, site.b, peer.overlay, [0, 100, 1444, 3000]) == []
