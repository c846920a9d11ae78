"""What a network leaves on disk: the env file for container engines, and its last known state for itself."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cached_property

from flannel_multi import log
from flannel_multi.model import envfile, state
from flannel_multi.model.lease import LeaseRecord
from flannel_multi.model.state import KnownState
from flannel_multi.model.subnet import Subnet
from flannel_multi.options import NetworkOptions
from flannel_multi.store.protocol import Revision
from flannel_worker import files

SAVE_AFTER_S = 1.0  # changes within this time are one write: a thousand hosts that join are not a thousand files
SAVE_SHARE = 20  # of 20,000 peers a save takes 0.2 s: no more than a twentieth of the time goes into saving


class Paper:
    """Env file and state file of one network."""

    def __init__(self, options: NetworkOptions, *, daemon: str) -> None:
        self._options = options
        self._daemon = daemon
        self._env_lines = b""
        self._env_stamp: tuple[int, ...] | None = None
        self.saved: Subnet | None = None  # the own subnet as the state file has it, or would if the disk took it
        self._fault = ""  # said once, until it changes or ends
        self._save_at_s: float | None = None
        self._save_after_s = SAVE_AFTER_S

    @property
    def env_file(self) -> str:
        return self._options.env_file

    def known(self) -> KnownState | None:
        """The last known state, None when there is none; a broken file is said and passed over."""
        raw = files.read(self._options.state_file)
        if raw is None:
            return None
        try:
            known = state.parse(raw)
        except ValueError as error:
            log.warning(f"last known state {self._options.state_file} is unreadable, starting without: {error}")
            return None
        if known.network != self._options.name:
            return None
        self.saved = None if known.lost else known.lease.subnet
        return known

    def confirmed(self, known: KnownState) -> bool:
        """True when the store has shown the config in `known` to this very daemon: its worker was restarted since."""
        return known.daemon == self._daemon and known.confirmed

    def previous_subnet(self) -> Subnet | None:
        """The subnet that the env file names now, whoever wrote it."""
        raw = files.read(self._options.env_file)
        return envfile.previous_subnet(raw.decode("utf-8", "replace")) if raw is not None else None

    @cached_property
    def former_subnet(self) -> Subnet | None:
        """The one that it named when this worker started: where a container bridge may still stand."""
        return self.previous_subnet()

    def write_env(self, network: Subnet, subnet: Subnet, *, mtu: int) -> None:
        """The env file, written only when its content changes. Raises OSError."""
        text = envfile.render(network, subnet, mtu=mtu, ip_masq=self._options.ip_masq).encode()
        if text == self._env_lines and not self.env_is_gone():
            return
        if files.replace(self._options.env_file, text):
            log.info(f"wrote {self._options.env_file}: {subnet}, MTU {mtu}")
        self._env_lines, self._env_stamp = text, files.stamp(self._options.env_file)

    def save_soon(self, now_s: float) -> None:
        if self._save_at_s is None:
            self._save_at_s = now_s + self._save_after_s

    @property
    def save_at_s(self) -> float | None:
        """When to save, on the clock of `save_soon`; None: nothing to save."""
        return self._save_at_s

    def is_due(self, now_s: float) -> bool:
        """True once for each time that `save_soon` set."""
        if self._save_at_s is None or now_s < self._save_at_s:
            return False
        self._save_at_s = None
        return True

    def forget(self) -> None:
        """Removes the last known state: the lease in it is another's now."""
        self._save_at_s = self.saved = None
        files.remove(self._options.state_file)

    def env_is_gone(self) -> bool:
        """True when somebody removed or replaced the env file that this worker wrote."""
        return self._env_stamp is not None and files.stamp(self._options.env_file) != self._env_stamp

    def save(
        self,
        *,
        config: bytes,
        confirmed: bool,
        lost: bool,
        public_ip: int,
        mac: bytes,
        lease: LeaseRecord,
        expires_at: int,
        revision: Revision | None,
        peers: Iterable[LeaseRecord],
    ) -> None:
        """Writes the last known state; a disk that refuses is said, and costs only the head start after a crash."""
        began_s = time.monotonic()
        self._save_at_s = None
        known = KnownState(
            network=self._options.name,
            config=config,
            confirmed=confirmed,
            lost=lost,
            public_ip=public_ip,
            mac=mac,
            lease=lease,
            expires_at=expires_at,
            revision=(revision.cluster, revision.number) if revision is not None else ("", 0),
            peers=tuple(record for record in peers if record.subnet != lease.subnet),
            daemon=self._daemon,
        )
        try:
            files.replace(self._options.state_file, state.render(known), mode=0o600)
            fault = ""
        except OSError as error:
            fault = f"cannot write last known state {self._options.state_file}: {error.strerror}"
        if fault and fault != self._fault:
            log.warning(fault)
        self._fault, self.saved = fault, None if lost else lease.subnet
        self._save_after_s = max(SAVE_AFTER_S, (time.monotonic() - began_s) * SAVE_SHARE)
