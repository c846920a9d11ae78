"""The whole path, built with sanitizers, carries real traffic while its table is replaced every millisecond."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.datapath import traffic
from tests.datapath.building import sanitized_runner
from tests.datapath.site import End, Site

CHURN_MS = 1500


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
@pytest.mark.parametrize("option", ["offload", "plain"])
def test_no_sanitizer_has_anything_to_report(sanitizers: str, option: str, tmp_path: Path) -> None:
    runner = sanitized_runner(tmp_path / "runner", sanitizers)
    with (
        Site() as site,
        End(site.a, {"10.77.2.0/24": site.b.address}, runner=runner) as here,
        End(site.b, {"10.77.1.0/24": site.a.address}, runner=runner) as there,
    ):
        here.start(option)
        there.start(option)
        churns = [threading.Thread(target=end.ask, args=(f"churn {CHURN_MS}",)) for end in (here, there)]
        for churn in churns:
            churn.start()
        rounds = 0
        while any(churn.is_alive() for churn in churns):
            for sender, receiver in ((here, there), (there, here)):
                left, arrived = traffic.digests_of_a_transfer(sender.host, receiver.host, receiver.overlay, 2)
                assert left == arrived
                sizes = [0, 64, 1444, 9000]
                assert traffic.wrong_echoes(sender.host, receiver.host, receiver.overlay, sizes) == []
                assert (
                    len(traffic.segments_received(sender.host, receiver.host, receiver.overlay, 100, bytes(2000))) == 20
                )
            rounds += 1
        assert rounds > 0
        assert (here.counters()["out_failed"], there.counters()["out_failed"]) == (0, 0)
        assert (here.stop(), there.stop()) == (0, 0)
