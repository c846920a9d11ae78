"""Keeps the arbiter's value and carries its rulings to the workers."""

from __future__ import annotations

from collections.abc import Callable

from flannel_multi.model.messages import BlockerGone, ClaimAnswer, ClaimAsked, ClaimsDropped, Down, GiveWay
from flannel_multi.supervisor import arbiter

Send = Callable[[str, Down], None]


class Referee:
    """`order` is the list of networks; `ran_before` are those with a last known state: they hold what they ran on."""

    def __init__(self, order: tuple[str, ...], ran_before: frozenset[str], send: Send, *, now_s: float) -> None:
        self._arbiter = arbiter.Arbiter(order, now_s, silent=frozenset(order), expected=ran_before)
        self._send = send

    def heard(self, name: str, message: ClaimAsked | ClaimsDropped, *, now_s: float) -> None:
        match message:
            case ClaimAsked(serial, claims, held):
                self._rule(arbiter.ask(self._arbiter, name, serial, claims, held=held, now_s=now_s))
            case ClaimsDropped():
                self._rule(arbiter.drop(self._arbiter, name, now_s=now_s))

    def spoke(self, name: str, *, serving: bool, now_s: float) -> None:
        """The worker said where it stands."""
        self._rule(arbiter.spoke(self._arbiter, name, now_s=now_s))
        if serving:
            self._rule(arbiter.settle(self._arbiter, name, now_s=now_s))

    def gone(self, name: str, *, now_s: float) -> None:
        """The worker has ended."""
        self._rule(arbiter.gone(self._arbiter, name, now_s=now_s))

    def tick(self, now_s: float) -> None:
        if self._arbiter.asked:
            self._rule(arbiter.tick(self._arbiter, now_s=now_s))

    def next_wake_s(self, now_s: float) -> float | None:
        return arbiter.next_wake_s(self._arbiter, now_s=now_s)

    def _rule(self, outcome: tuple[arbiter.Arbiter, list[arbiter.Ruling]]) -> None:
        self._arbiter, rulings = outcome
        for ruling in rulings:
            match ruling:
                case arbiter.Answer(name, serial, clashes):
                    self._send(name, ClaimAnswer(serial, clashes))
                case arbiter.GiveWay(name):
                    self._send(name, GiveWay())
                case arbiter.AskAgain(name):
                    self._send(name, BlockerGone())
