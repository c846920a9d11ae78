"""Lost packets are said by cause, not by packet."""

from __future__ import annotations

from flannel_worker.datapath.tally import Tally, losses

NAMES = ("out_sent", "out_too_big", "in_refused", "out_bytes", "reads")
MEANINGS = tuple((name, f"what {name} means") for name in NAMES)


def test_says_a_cause_once_and_again_when_it_has_grown_tenfold() -> None:
    tally = Tally(losses(MEANINGS))
    said = [tally.lines({"out_too_big": count}) for count in (0, 3, 4, 29, 30, 299, 300)]
    assert [len(lines) for lines in said] == [0, 1, 0, 0, 1, 0, 1]
    assert said[4] == ["data path lost 30 packets so far: what out_too_big means (out_too_big)"]


def test_says_each_cause_by_itself_and_nothing_of_what_is_no_loss() -> None:
    tally = Tally(losses(MEANINGS))
    assert tally.lines({"out_sent": 10**9, "out_bytes": 10**9, "reads": 5, "in_refused": 1}) == [
        "data path lost 1 packets so far: what in_refused means (in_refused)"
    ]
