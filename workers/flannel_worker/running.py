"""Which config is in force: the store's at a start of the daemon, the running one ever after (spec §0).

A network that runs keeps its values when the key is rewritten or deleted, through worker restarts and lease loss;
a start of the daemon takes the store's, or keeps the last known one while that is absent or invalid.
"""

from __future__ import annotations

from typing import NamedTuple

from flannel_multi.model.config import NetworkConfig, parse_config
from flannel_multi.model.errors import ConfigError, NotBuiltYet
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.protocol import Backend


class InForce(NamedTuple):
    """`raw` is the key's value that it was read from."""

    raw: bytes
    config: NetworkConfig
    backend: Backend

    @property
    def stands_on(self) -> tuple[object, ...]:
        """What of it is in the kernel: a config that differs here leaves something behind."""
        return self.config.network, self.backend.kind, self.backend.device_name()


class Running:
    """`now` is the config in force; `before` the one whose remains are still to be taken away.

    `confirmed`: the store has shown the config in force to this daemon (or that it has none), so a value that differs
    is a rewrite. `served`: the network has run on it, in this run or an earlier one; until then it follows its key.
    """

    def __init__(self, config_key: str) -> None:
        self.key = config_key
        self.now: InForce | None = None
        self.before: InForce | None = None
        self.confirmed = True
        self.served = False
        self._refused: tuple[bytes, str] | None = None

    def remember(self, raw: bytes, *, confirmed: bool) -> None:
        """Starts from the last known state. Raises ConfigError or NotBuiltYet when it is not valid any more."""
        self.now = _read(raw)
        self.confirmed, self.served = confirmed, True

    def shown(self, raw: bytes | None) -> bool:
        """The store's value is `raw`: true when it is to replace what is in force. That is when nothing has run yet,
        or when the daemon has just started and the store differs; whatever happens to the lease."""
        if self.now is None:
            return raw is not None
        if raw is None or raw == self.now.raw:
            self.confirmed = True
            return False
        return not self.served or not self.confirmed

    def take(self, raw: bytes) -> tuple[str, ...]:
        """Puts `raw` in force; returns its warnings. Raises ConfigError, and keeps the old one.

        The same refused value is judged once, not at every look.
        """
        if self._refused is not None and self._refused[0] == raw:
            raise ConfigError(self._refused[1])
        try:
            fresh = _read(raw)
        except (ConfigError, NotBuiltYet) as error:
            text = f"config at {self.key}: {error.message}"
            self._refused = (raw, text)
            raise ConfigError(text) from None
        self.before = self.before or self.now  # the remains are those of the first one, until they are taken away
        self.now, self.confirmed, self.served, self._refused = fresh, True, False, None
        return fresh.config.warnings

    def remark(self, raw: bytes | None) -> str:
        """What to say of the store's value while another is in force; "" when they agree."""
        if raw is None:
            return f"config gone: {self.key} is not in the store; the running values stay"
        if self.now is not None and raw != self.now.raw:
            return "config changed: the running values stay until the daemon is started again"
        return ""


def _read(raw: bytes) -> InForce:
    config = parse_config(raw)
    return InForce(raw, config, backend_for(config))
