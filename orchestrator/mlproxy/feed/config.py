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
    127.0.0.1 only, at `embedded_port` (0: any free port).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    host: str | None = Field(default=None, min_length=1)
    port: _Port = 1883
    username: str | None = Field(default=None, min_length=1)
    password_file: str | None = Field(default=None, min_length=1)
    tls: bool = False
    ca_file: str | None = Field(default=None, min_length=1)
    embedded_port: int = Field(default=1883, ge=0, le=65535)
    spool: bool = True
    spool_dir: str | None = Field(default=None, min_length=1)
    spool_bytes: int = Field(default=8 << 20, ge=64 << 10, le=1 << 40)
    queue_bytes: int = Field(default=4 << 20, ge=16 << 10, le=1 << 30)
    queue_metrics: int = Field(default=1024, ge=1, le=1 << 20)
    inflight: int = Field(default=16, ge=1, le=64)
    keepalive_seconds: int = Field(default=10, ge=1, le=3600)
    timeout_seconds: _Seconds = 5.0
    drain_seconds: _Seconds = 2.0
    state_min_age_seconds: float = Field(default=1.0, ge=0, le=3600, allow_inf_nan=False)
    state_max_age_seconds: _Seconds = 30.0
    reconnect_min_seconds: _Seconds = 0.5
    reconnect_max_seconds: _Seconds = 30.0

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
