"""Any sequence of changes, by two stores on one file, against a dictionary."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flannel_multi.model.errors import KeyAbsent, LeaseHeld
from flannel_multi.model.lease import LeaseAttrs, LeaseRecord
from flannel_multi.model.subnet import Subnet
from flannel_multi.options import SqliteOptions
from flannel_multi.store.protocol import Known, LeaseGone, LeaseWritten
from flannel_multi.store.sqlite import SqliteStore
from tests.lab.store_file import StoreFile

NET = "blue"
subnets = st.sampled_from([Subnet.parse(f"10.1.{at}.0/24") for at in range(4)])
addresses = st.integers(1, 3)
sides = st.integers(0, 1)


class Changes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(prefix="flannel-store-"))
        self._file = StoreFile(self._folder / "store.db")
        self._runner = asyncio.Runner()
        self._stores = [SqliteStore(SqliteOptions(str(self._file.path))) for _ in range(2)]
        self._start = self._runner.run(self._stores[0].snapshot(NET))
        self._known = self._start
        self._model: dict[Subnet, LeaseRecord] = {}

    def teardown(self) -> None:
        for store in self._stores:
            self._runner.run(store.close())
        self._runner.close()
        shutil.rmtree(self._folder)

    def _held(self, subnet: Subnet, public_ip: int) -> bool:
        return subnet in self._model and self._model[subnet].attrs.public_ip != public_ip

    @rule(side=sides, subnet=subnets, public_ip=addresses, vni=st.integers(1, 3), ttl_s=st.sampled_from([None, 900]))
    def put(self, side: int, subnet: Subnet, public_ip: int, vni: int, ttl_s: int | None) -> None:
        attrs = LeaseAttrs(public_ip, "vxlan", {"VNI": vni})
        try:
            lease = self._runner.run(self._stores[side].put_lease(NET, subnet, attrs, ttl_s=ttl_s))
        except LeaseHeld:
            assert self._held(subnet, public_ip)
            return
        assert not self._held(subnet, public_ip)
        before = self._model.get(subnet)
        assert lease.record.permanent == (before.permanent if before else ttl_s is None)
        self._model[subnet] = lease.record

    @rule(side=sides, subnet=subnets, holder=st.none() | addresses)
    def revoke(self, side: int, subnet: Subnet, holder: int | None) -> None:
        try:
            self._runner.run(self._stores[side].revoke(NET, subnet, holder=holder))
        except KeyAbsent:
            assert subnet not in self._model
        except LeaseHeld:
            assert holder is not None
            assert self._held(subnet, holder)
        else:
            del self._model[subnet]

    @rule(side=sides, subnet=subnets, public_ip=addresses)
    def reserve(self, side: int, subnet: Subnet, public_ip: int) -> None:
        try:
            record = self._runner.run(self._stores[side].reserve(NET, subnet, public_ip))
        except LeaseHeld:
            assert self._held(subnet, public_ip)
            return
        before = self._model.get(subnet)
        assert record.permanent
        assert record.attrs == (before.attrs if before else LeaseAttrs(public_ip))
        self._model[subnet] = record

    @rule(side=sides, subnet=subnets)
    def unreserve(self, side: int, subnet: Subnet) -> None:
        try:
            record = self._runner.run(self._stores[side].unreserve(NET, subnet))
        except KeyAbsent:
            assert subnet not in self._model
            return
        assert not record.permanent
        assert record.attrs == self._model[subnet].attrs
        self._model[subnet] = record

    @rule(subnet=subnets)
    def end(self, subnet: Subnet) -> None:
        if subnet in self._model and not self._model[subnet].permanent:
            self._file.end(NET, subnet.key)
            del self._model[subnet]

    @rule(side=sides)
    def list_the_difference(self, side: int) -> None:
        known = Known(self._known.revision, self._known.leases)
        self._known = self._runner.run(self._stores[side].snapshot(NET, known=known))
        assert self._known.leases == self._model

    @invariant()
    def both_list_what_was_written_and_the_history_leads_to_it(self) -> None:
        for store in self._stores:
            listed = self._runner.run(store.snapshot(NET))
            assert listed.leases == self._model
            folded = dict(self._start.leases)
            for change in self._runner.run(store.replay(NET, after=self._start.revision.number, upto=listed)):
                if isinstance(change, LeaseWritten):
                    folded[change.record.subnet] = change.record
                elif isinstance(change, LeaseGone):
                    folded.pop(change.subnet, None)
            assert folded == self._model


Changes.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestAgainstADictionary = Changes.TestCase
