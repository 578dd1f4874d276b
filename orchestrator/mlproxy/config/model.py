"""The sections of the configuration that are mlproxy's own."""

from __future__ import annotations

import os
import platform
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mlproxy.config.paths import default_socket, default_state_dir
from mlproxy.feed.config import FeedConfig

__all__ = ("DaemonConfig", "FeedConfig", "PluginsConfig", "ProxyOverrides", "Section")

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Ppm = Annotated[int, Field(ge=0, le=1_000_000)]
Time = Annotated[int, Field(ge=0, lt=1 << 63)]
Count = Annotated[int, Field(ge=0, lt=1 << 32)]
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


class Section(BaseModel):
    """Base of every section: no unknown keys, no silent conversion, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


def _node() -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", platform.node()).lstrip("_.-")[:64]
    return name or "localhost"


class DaemonConfig(Section):
    """The daemon itself."""

    node: str = Field(
        default_factory=_node,
        description="name of this machine in topics and messages; by default its host name",
        examples=["host-1"],
    )
    state_dir: str = Field(
        default_factory=default_state_dir,
        description="directory for everything kept; made with mode 0700",
        examples=["/var/lib/mlproxy"],
    )
    socket: str = Field(
        default="",
        description="control socket; empty: in $XDG_RUNTIME_DIR/mlproxy, /run/mlproxy or state_dir",
    )
    socket_group: str | None = Field(
        default=None,
        description="group whose members may use the control socket (mode 0660 then, else 0600)",
        examples=["mlproxy"],
    )
    seed: int = Field(default=1, ge=0, lt=1 << 63, description="of everything random")
    guard: Literal["auto", "kernel", "in-process"] = Field(
        default="auto",
        description="where proxies live, so who falls back when the daemon dies: kernel (an error "
        "without the module), in-process, or auto: the kernel when it can",
    )
    import_seconds: Seconds = Field(default=30.0, description="deadline of importing a plugin")
    start_seconds: Seconds = Field(default=30.0, description="deadline of a subsystem's start()")
    step_seconds: Seconds = Field(default=5.0, description="deadline of a subsystem's step()")
    stop_seconds: Seconds = Field(default=5.0, description="deadline of a subsystem's stop()")
    restart_limit: int = Field(
        default=3, ge=0, le=1000, description="restarts of a failed subsystem before it stays out"
    )
    restart_backoff_seconds: Seconds = Field(
        default=1.0, description="pause before the first restart; doubles each time, up to 60 s"
    )
    report_interval_seconds: Seconds = Field(
        default=0.1, description="how often the proxies are looked at, at most (after a step)"
    )
    state_interval_seconds: Seconds = Field(
        default=1.0, description="how often counters and metrics go to the feed, at most"
    )
    exit_when_done: bool = Field(
        default=False, description="end the daemon when all subsystems are done"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged"
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: console on a terminal, JSON lines elsewhere"
    )

    @field_validator("node")
    @classmethod
    def _node_fits_topics(cls, value: str) -> str:
        if not NODE.match(value):
            raise ValueError("must be 1-64 of A-Z a-z 0-9 _ . - and begin with a letter or digit")
        return value

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not os.path.isabs(value) or "\0" in value:  # noqa: PTH117 - a text, not a path yet
            raise ValueError("must be an absolute path")
        return value

    @field_validator("socket")
    @classmethod
    def _socket_fits(cls, value: str) -> str:
        if value and (not os.path.isabs(value) or "\0" in value):  # noqa: PTH117
            raise ValueError("must be an absolute path")
        if len(os.fsencode(value)) > 107:
            raise ValueError("longer than the 107 bytes that a unix socket's path may have")
        return value

    @property
    def socket_path(self) -> str:
        """The control socket, with the default filled in."""
        configured = self.state_dir if self.state_dir != default_state_dir() else None
        return self.socket or default_socket(state_dir=configured)


class PluginsConfig(Section):
    """Which plugins may be loaded; $MLPROXY_PLUGINS=a,b restricts further."""

    allow: list[str] | None = Field(
        default=None,
        description="names that may be loaded; not set: all that are installed",
        examples=[["lfs"]],
    )
    deny: list[str] = Field(default=[], description="names that are never even imported")


class ProxyOverrides(Section):
    """Safety numbers of one proxy, instead of those its plugin chose.

    Times are in the proxy's own unit, shares, rates and effects in parts per million.
    """

    share_learning: Ppm | None = Field(None, description="share of the model in learning (ppm)")
    share_collaboration: Ppm | None = Field(None, description="... in collaboration (ppm)")
    share_trusted: Ppm | None = Field(None, description="... in trusted (ppm)")
    sample_every: Count | None = Field(None, description="publish one decision in so many; 0: none")
    epoch: Time | None = Field(None, description="switchback: length of an epoch")
    epoch_settle: Ppm | None = Field(None, description="switchback: part not scored (ppm)")
    twin_gate: Annotated[int, Field(ge=0, le=1)] | None = Field(
        None, description="1: first win on the twin, then real operations"
    )
    alpha: Ppm | None = Field(None, description="false-promotion rate (ppm)")
    alpha_demote: Ppm | None = Field(None, description="rate for demotion (ppm), larger: quicker")
    noise_levels: Annotated[int, Field(ge=0, le=7)] | None = Field(
        None, description="noise may hang together over 2^n windows: more is slower and safer"
    )
    min_effect: Ppm | None = Field(None, description="least saving worth having (ppm)")
    min_count: Count | None = Field(None, description="scored pairs before any promotion")
    dwell: Time | None = Field(None, description="least time in a mode before promotion")
    heartbeat_limit: Time | None = Field(None, description="silence that means emergency; 0: none")
    max_expiry: Time | None = Field(None, description="longest life of a recommendation")
    reject_limit: Count | None = Field(None, description="rejects in the window: emergency")
    trip_limit: Count | None = Field(None, description="emergencies until latched")
    reject_window: Time | None = Field(None, description="window for reject_limit")
    spike: Ppm | None = Field(None, description="cost above the recent default's: fast guard (ppm)")
    spike_count: Count | None = Field(None, description="so many spikes in a row")
    budget: Time | None = Field(None, description="cumulative cost above the default's; 0: none")
    cooldown: Time | None = Field(None, description="pause between emergency and learning")
    cooldown_max: Time | None = Field(None, description="the pause doubles up to this")

    def set_fields(self) -> dict[str, int]:
        """What was set."""
        fields: dict[str, Any] = self.model_dump(exclude_none=True)
        return fields
