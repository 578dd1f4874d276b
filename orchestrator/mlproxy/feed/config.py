"""The table `[feed]` of the configuration (the only part of the feed that loads pydantic)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ("FeedConfig",)

_Port = Annotated[int, Field(ge=1, le=65535)]
_Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class FeedConfig(BaseModel):
    """Where the feed goes and how much it may keep.

    Without `host` an MQTT broker (amqtt) is started inside the daemon, on
    127.0.0.1 only, at `embedded_port`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="whether there is a feed at all")
    host: str | None = Field(
        default=None,
        min_length=1,
        description="name or address of the MQTT broker; none: one runs inside the daemon",
    )
    port: _Port = Field(default=1883, description="TCP port of `host`; 8883 is usual with tls")
    username: str | None = Field(default=None, min_length=1, description="account at the broker")
    password_file: str | None = Field(
        default=None, min_length=1, description="file whose first line is the password"
    )
    tls: bool = Field(default=False, description="TLS 1.2 or later, the broker's name checked")
    ca_file: str | None = Field(
        default=None, min_length=1, description="PEM file of the CA; none: the system's CAs"
    )
    embedded_port: int = Field(
        default=1883,
        ge=0,
        le=65535,
        description="port of the broker inside the daemon on 127.0.0.1; 0: any free one",
    )
    spool: bool = Field(default=True, description="keep unsent events on disk")
    spool_dir: str | None = Field(
        default=None, min_length=1, description="where; none: feed-spool in the state directory"
    )
    spool_bytes: int = Field(
        default=8 << 20, ge=64 << 10, le=1 << 40, description="bound of the spool in bytes"
    )
    queue_bytes: int = Field(
        default=4 << 20, ge=16 << 10, le=1 << 30, description="bound of events in memory in bytes"
    )
    queue_metrics: int = Field(
        default=1024, ge=1, le=1 << 20, description="metric messages kept while the broker is away"
    )
    inflight: int = Field(
        default=64, ge=1, le=100, description="events sent before the first must be acknowledged"
    )
    keepalive_seconds: int = Field(
        default=10,
        ge=1,
        le=3600,
        description="the broker declares a silent daemon dead after 1.5 times this",
    )
    timeout_seconds: _Seconds = Field(
        default=5.0, description="how long the broker may take to connect or acknowledge"
    )
    drain_seconds: _Seconds = Field(
        default=2.0, description="how long a clean stop may go on sending"
    )
    state_min_age_seconds: float = Field(
        default=1.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="a state of which only numbers changed is sent at most this often",
    )
    state_max_age_seconds: _Seconds = Field(
        default=30.0, description="a state is sent at least this often"
    )
    reconnect_min_seconds: _Seconds = Field(
        default=0.5, description="wait before the first reconnect; doubles, with jitter"
    )
    reconnect_max_seconds: _Seconds = Field(default=30.0, description="longest such wait")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.reconnect_max_seconds < self.reconnect_min_seconds:
            raise ValueError("reconnect_max_seconds is below reconnect_min_seconds")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username")
        if self.ca_file is not None and not self.tls:
            raise ValueError("ca_file needs tls = true")
        if self.host is None and (self.tls or self.username is not None):
            raise ValueError("tls and username are for a broker given by host")
        return self
