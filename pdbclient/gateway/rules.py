"""What of the configuration the answers to requests depend on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pdbclient.config.model import ClientConfig
from pdbclient.gateway.upstream import timeouts_below

__all__ = ["Rules"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What of the configuration the answers depend on. `patience`: seconds that a request waits for its turn.

    `max_read_bytes` of `max_total_bytes` are for the bodies of queries, and of all that comes in clear text: commands
    with a certificate have the others for themselves.
    """

    patience: float
    allowed: Collection[str]
    max_body_bytes: int
    max_total_bytes: int
    max_read_bytes: int
    command_broadcast: bool
    include_unchanged_resources: bool
    local_commands: bool

    @classmethod
    def of(cls, config: ClientConfig, allowed: Collection[str]) -> Rules:
        """The rules of a configuration."""
        # So that the largest body fits, and what it is unpacked to.
        largest = 2 * config.gateway_max_body_bytes
        total = max(config.gateway_max_total_bytes, largest)
        return cls(
            timeouts_below(config.timeouts).operation,
            allowed,
            config.gateway_max_body_bytes,
            total,
            max(total // 2, largest) if config.gateway_local_commands else total // 2,
            config.command_broadcast,
            config.include_unchanged_resources,
            config.gateway_local_commands,
        )
