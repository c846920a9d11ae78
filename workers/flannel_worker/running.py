"""Which config is in force: the store's at a start of the daemon, the running one ever after (spec §0).

A network that runs keeps its values when the key is rewritten or deleted, through worker restarts and lease loss;
a start of the daemon takes the store's, or keeps the last known one while that is absent or invalid.
"""

from __future__ import annotations

from flannel_multi.model.config import NetworkConfig, parse_config
from flannel_multi.model.errors import ConfigError, NotBuiltYet
from flannel_worker.backends.choose import backend_for
from flannel_worker.backends.protocol import Backend


class Running:
    """The config in force, with its backend; `raw` is the key's value it was read from."""

    def __init__(self, config_key: str) -> None:
        self.key = config_key
        self._settled = True
        self.raw: bytes = b""
        self.config: NetworkConfig | None = None
        self.backend: Backend | None = None
        self._refused: tuple[bytes, str] | None = None

    def remember(self, raw: bytes, *, same_daemon: bool) -> None:
        """Starts from the last known state. Raises ConfigError when even that is not valid any more."""
        self._take(raw)
        self._settled = same_daemon

    def wants(self, raw: bytes | None, *, leased: bool) -> bool:
        """True when `raw`, the store's value, is to replace what is in force: nothing runs (no lease was ever held
        with it), or the daemon has just started and the store differs."""
        if raw is None:
            return False
        if self.config is None:
            return True
        if not leased:
            return raw != self.raw
        if raw == self.raw:
            self._settled = True
        return not self._settled

    def take(self, raw: bytes) -> tuple[str, ...]:
        """Puts `raw` in force; returns its warnings. Raises ConfigError, and keeps the old one.

        The same refused value is judged once, not at every look.
        """
        if self._refused is not None and self._refused[0] == raw:
            raise ConfigError(self._refused[1])
        try:
            self._take(raw)
        except (ConfigError, NotBuiltYet) as error:
            text = f"config at {self.key}: {error.message}"
            self._refused = (raw, text)
            raise ConfigError(text) from None
        self._settled, self._refused = True, None
        assert self.config is not None
        return self.config.warnings

    def remark(self, raw: bytes | None) -> str:
        """What to say of the store's value while another is in force; "" when they agree."""
        if raw is None:
            return f"config gone: {self.key} is not in the store; the running values stay"
        if raw != self.raw:
            return "config changed: the running values stay until the daemon is started again"
        return ""

    def _take(self, raw: bytes) -> None:
        config = parse_config(raw)
        backend = backend_for(config)
        self.raw, self.config, self.backend = raw, config, backend
