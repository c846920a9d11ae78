"""What clients with a cursor are told: nothing lost, nothing doubled, whatever they have missed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flannel_multi.server.history import MOST, Event, History

SUBJECTS = "abc"
steps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(SUBJECTS)), max_size=40)


def events_of(found: list[tuple[int, str]], *, start: int = 0) -> list[Event[str]]:
    """Events with the revision of the one before and so many more: 0 shares it."""
    events, revision = [], start + 1
    for number, (more, subject) in enumerate(found):
        revision += more
        events.append(Event(revision, subject, f"{number}", f"rich {number}"))
    return events


def told(history: History[str], cursor: int, subject: str | None, most: int) -> list[Event[str]]:
    """Everything a client is told that goes on from `cursor`, answer by answer."""
    heard: list[Event[str]] = []
    while answer := history.after(cursor, subject, most=most):
        assert answer[-1].revision > cursor
        heard += answer
        cursor = answer[-1].revision
    return heard


@given(steps, st.integers(0, 130), st.sampled_from([None, *SUBJECTS]), st.integers(1, 5))
def test_a_client_with_any_cursor_hears_every_later_event_once_and_in_order(
    found: list[tuple[int, str]], cursor: int, subject: str | None, most: int
) -> None:
    history: History[str] = History(0)
    events = events_of(found)
    for event in events:
        history.add(event)
    wanted = [event for event in events if event.revision > cursor and subject in (None, event.subject)]
    assert told(history, cursor, subject, most) == wanted
    assert history.behind(cursor) == sum(event.revision > cursor for event in events)


@given(steps, st.data())
def test_a_watch_that_tells_again_what_it_told_doubles_nothing(
    found: list[tuple[int, str]], data: st.DataObject
) -> None:
    history: History[str] = History(0)
    events = events_of(found)
    for at, event in enumerate(events):
        history.add(event)
        again_from = data.draw(st.integers(0, at))
        for old in events[again_from : at + 1]:
            history.add(old)
    assert told(history, 0, None, 1) == events


@given(steps, steps, st.integers(1, 5))
def test_what_was_before_the_beginning_can_be_put_before_it(
    earlier: list[tuple[int, str]], later: list[tuple[int, str]], most: int
) -> None:
    old = events_of(earlier)
    floor = old[-1].revision if old else 1
    new = events_of(later, start=floor)
    history: History[str] = History(floor)
    for event in new:
        history.add(event)
    history.before(0, old)
    assert history.floor == 0
    assert told(history, 0, None, most) == old + new


def test_a_long_history_forgets_its_beginning_and_says_so() -> None:
    history: History[str] = History(0)
    for revision in range(1, 2 * MOST + 1):
        history.add(Event(revision, "a", f"{revision}", ""))
    assert history.floor == MOST
    assert told(history, MOST, None, 1000)[0].revision == MOST + 1
    assert len(told(history, MOST, None, 1000)) == MOST
    assert history.newest == 2 * MOST


def test_events_of_one_revision_are_forgotten_together() -> None:
    history: History[str] = History(0)
    for number in range(2 * MOST):
        history.add(Event(1 + number // 3, f"{number}", f"{number}", ""))
    kept = told(history, history.floor, None, 1000)
    assert [event.revision for event in kept[:3]] == [history.floor + 1] * 3
    assert MOST - 3 < len(kept) <= MOST


def test_a_past_longer_than_what_is_kept_is_put_before_only_as_far_as_it_is_kept() -> None:
    history: History[str] = History(3 * MOST)
    history.before(0, [Event(revision, "a", "", "") for revision in range(1, 3 * MOST + 1)])
    assert history.floor == 2 * MOST
    assert len(told(history, history.floor, None, 1000)) == MOST


def test_a_history_without_events_is_as_new_as_its_beginning() -> None:
    history: History[str] = History(7)
    assert (history.newest, history.floor, history.after(7), history.behind(7)) == (7, 7, [], 0)
