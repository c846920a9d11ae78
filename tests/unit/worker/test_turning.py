"""The pace of a worker: it looks when there is news or something is due, and says each standing once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from flannel_multi.model.messages import ClaimAnswer, ClaimAsked, Facts, Phase, Said, Up
from flannel_worker.claimant import Claimant
from flannel_worker.feed import Down, Fed
from flannel_worker.kernel.reconcile import Reconciler
from flannel_worker.life import Life
from flannel_worker.paper import Paper
from flannel_worker.turning import Turning
from tests.unit.worker.place import KEY, VXLAN, MemoryStore, PlainHost, keeper, options, peer


class Wheel:
    """A turning network whose parent grants every claim; `words` are what it said to the parent."""

    def __init__(self, folder: Path) -> None:
        self.store, self.host = MemoryStore(), PlainHost()
        self.words: asyncio.Queue[Up] = asyncio.Queue()
        told = options(folder)
        self.state = Path(told.state_file)
        self._paper = Paper(told, daemon="d1")
        self.life = Life(
            told, self.store, cast(Reconciler, cast(Any, self.host)), Claimant(self.send), self._paper,
            keeper=keeper(), config_key=KEY, timeout_s=1.0,
        )  # fmt: skip
        self.turning = Turning(self.life, self._paper, self.send, store_timeout_s=1.0)

    def send(self, word: Up) -> None:
        if isinstance(word, ClaimAsked):
            answer = ClaimAnswer(word.serial)
            asyncio.get_running_loop().call_soon(self.turning.heard, answer)
        else:
            self.words.put_nowait(word)

    async def listed(self) -> None:
        snapshot = await self.store.snapshot("blue")
        self.turning.fed(Fed(self.life.mirror.listed(snapshot, now_s=0.0)))

    async def word(self) -> Up:
        return await asyncio.wait_for(self.words.get(), 5.0)

    async def said(self, phase: Phase) -> Said:
        """The next word about where it stands, which must be `phase`."""
        while not isinstance(word := await self.word(), Said):
            pass
        assert word.phase == phase.value, word
        return word


def turn(folder: Path, story: Callable[[Wheel], Awaitable[None]]) -> None:
    async def run() -> None:
        wheel = Wheel(folder)
        task = asyncio.create_task(wheel.turning.run())
        try:
            async with asyncio.timeout(10.0):
                await story(wheel)
        finally:
            task.cancel()

    asyncio.run(run())


def test_each_standing_and_each_fact_is_said_once(tmp_path: Path) -> None:
    async def story(wheel: Wheel) -> None:
        await wheel.listed()
        await wheel.said(Phase.WAITING_FOR_CONFIG)
        await wheel.listed()
        wheel.store.configure(VXLAN)
        await wheel.listed()
        assert (await wheel.said(Phase.READY)).serving
        facts = await wheel.word()
        assert isinstance(facts, Facts)
        assert facts.peers == 0
        wheel.store.put(peer("10.5.9.0/24"))
        await wheel.listed()
        facts = await wheel.word()
        assert isinstance(facts, Facts)
        assert facts.peers == 1
        await wheel.listed()
        assert wheel.words.empty()

    turn(tmp_path, story)


def test_a_failure_without_an_event_is_tried_again_by_itself(tmp_path: Path) -> None:
    async def story(wheel: Wheel) -> None:
        env = tmp_path / "run" / "networks"
        env.parent.mkdir()
        env.write_text("in the way")
        wheel.store.configure(VXLAN)
        await wheel.listed()
        assert "blue.env" in (await wheel.said(Phase.DEGRADED)).reason
        env.unlink()
        await wheel.said(Phase.READY)

    turn(tmp_path, story)


def test_the_last_known_state_is_saved_soon_after_it_is_ready(tmp_path: Path) -> None:
    async def story(wheel: Wheel) -> None:
        wheel.store.configure(VXLAN)
        await wheel.listed()
        await wheel.said(Phase.READY)
        deadline_s = asyncio.get_running_loop().time() + 5.0
        while not wheel.state.exists():
            assert asyncio.get_running_loop().time() < deadline_s
            await asyncio.sleep(0.05)

    turn(tmp_path, story)


def test_an_outage_is_one_word_and_its_end_another(tmp_path: Path) -> None:
    async def story(wheel: Wheel) -> None:
        wheel.store.configure(VXLAN)
        await wheel.listed()
        await wheel.said(Phase.READY)
        wheel.turning.fed(Down("no answer"))
        first = await wheel.said(Phase.DEGRADED)
        assert first.serving
        wheel.turning.fed(Down("still no answer"))
        await wheel.listed()
        await wheel.said(Phase.READY)

    turn(tmp_path, story)


def test_drift_is_repaired_and_nothing_said(tmp_path: Path) -> None:
    async def story(wheel: Wheel) -> None:
        wheel.store.configure(VXLAN)
        wheel.store.put(peer("10.5.9.0/24"))
        await wheel.listed()
        await wheel.said(Phase.READY)
        await wheel.word()
        wheel.host.objects.clear()
        wheel.life.drifted("route 10.5.9.0/24 deleted")
        wheel.turning.look()
        while wheel.host.routes() != {"10.5.9.0/24"}:
            await asyncio.sleep(0)
        assert wheel.words.empty()

    turn(tmp_path, story)
