"""The peer table against the plainest model of longest prefix match, through any number of replacements."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.packets.driver import Driver, Row

# Few bits vary, so that rows meet: at both ends of an address, where hash and masks must work.
addresses = st.builds(lambda high, low: 0x0A000000 | high << 16 | low, st.integers(0, 3), st.integers(0, 3))
rows = st.builds(
    lambda base, length, address: Row(base, length, address),
    addresses,
    st.one_of(st.sampled_from((0, 8, 14, 15, 16, 24, 30, 31, 32)), st.integers(0, 32)),
    st.integers(1, 3),
)


def mask(length: int) -> int:
    return 0xFFFFFFFF << (32 - length) & 0xFFFFFFFF


def machine(driver: Driver) -> type[RuleBasedStateMachine]:
    class Table(RuleBasedStateMachine):
        """`rows`: what the table holds; `found`: how often each row was found since it was made."""

        def __init__(self) -> None:
            super().__init__()
            assert driver.replace([]) == 0
            self.rows: dict[tuple[int, int], int] = {}
            self.found: dict[tuple[int, int], int] = {}

        @rule(given=st.lists(rows, max_size=12))
        def replace(self, given: list[Row]) -> None:
            before = self.rows
            self.rows = {(base & mask(length), length): address for base, length, address in given}
            kept = {key for key, address in self.rows.items() if before.get(key) == address}
            self.found = {key: self.found[key] if key in kept else 0 for key in self.rows}
            assert driver.replace(given) == len(self.rows)

        @rule(given=st.lists(rows, max_size=3), length=st.integers(33, 0xFFFFFFFF), at=st.integers(0, 3))
        def a_table_with_an_impossible_length_is_refused(self, given: list[Row], length: int, at: int) -> None:
            given.insert(at, Row(0x0A000000, length, 1))
            assert driver.replace(given) is None

        @rule(address=addresses)
        def find(self, address: int) -> None:
            matches = [(length, base) for base, length in self.rows if address & mask(length) == base]
            if not matches:
                assert driver.find(address) is None
                return
            length, base = max(matches)
            self.found[base, length] += 1
            assert driver.find(address) == (Row(base, length, self.rows[base, length]), self.found[base, length])

        @invariant()
        def an_address_far_away_finds_the_default_alone(self) -> None:
            found = driver.find(0xDEADBEEF)
            assert (found is None) == ((0, 0) not in self.rows)
            if found is not None:
                self.found[0, 0] += 1

    return Table


def test_the_longest_prefix_wins_and_counters_outlive_replacements(driver: Driver) -> None:
    run_state_machine_as_test(
        machine(driver), settings=settings(max_examples=100, stateful_step_count=30, deadline=None)
    )


def test_ten_thousand_peers_are_found(driver: Driver) -> None:
    many = [Row(0x0A000000 | i << 8, 24, i) for i in range(10_000)]
    assert driver.replace(many) == 10_000
    assert all(driver.find(row.base | 77) == (row, 1) for row in many[::7])
    assert driver.find(0x0A000000 | 10_000 << 8) is None
