"""What a knob proxy may look like, whoever holds the knobs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlproxy.errors import ProxyError
from mlproxy.proxy.knob import MAX_KNOBS, Knob
from mlproxy.proxy.types import Kind, ProxyConfig, Trial

__all__ = ("check_range", "check_shape", "settings_of")


def check_shape(config: ProxyConfig) -> None:
    """See that a proxy of this configuration can hold knobs.

    Raises:
        ProxyError: `proxy.config`, naming the field.
    """
    checks = (
        ("kind", config.kind, config.kind in (Kind.VALUE, Kind.CHOICE)),
        ("trial", config.trial, config.trial is Trial.SWITCHBACK),
        ("nr_features", config.nr_features, config.nr_features == 0),
        ("nr_streams", config.nr_streams, config.nr_streams == 1),
    )
    for field, value, fine in checks:
        if not fine:
            raise ProxyError(
                f"{config.name!r}: {field} = {value!r} is not possible with knobs",
                code="proxy.config",
                hint="docs/reference/kernel-transport.md says what is",
                field=field,
            )


def settings_of(
    config: ProxyConfig, knobs: Sequence[Knob], settings: Sequence[Sequence[int]]
) -> npt.NDArray[np.int64]:
    """The settings as int64, shape [choices, knobs] with zeros for triggers, or of length 0.

    Raises:
        ProxyError: `knob.settings` when knobs and settings do not agree.
    """
    rows = np.ascontiguousarray(settings, dtype=np.int64)
    values = [i for i, knob in enumerate(knobs) if not knob.trigger]
    choice = bool(knobs) and config.kind is Kind.CHOICE
    # A value is written to the one knob that comes first.
    fits = rows.shape == (config.max + 1, len(values)) if choice else not rows.size
    fits = fits and (not knobs or bool(values)) and (choice or values in ([], [0]))
    if len(knobs) > MAX_KNOBS or not fits:
        raise ProxyError(
            f"{config.name!r}: {len(values)} knobs, {len(knobs) - len(values)} triggers and"
            f" settings of shape {rows.shape} do not agree",
            code="knob.settings",
            hint="a value is written to one knob, the first; a choice has a row for each of 0..max"
            f" with a value for each knob; knobs and triggers are {MAX_KNOBS} at most",
        )
    if not rows.size:
        return rows
    full = np.zeros((len(rows), len(knobs)), dtype=np.int64)
    full[:, values] = rows
    return full


def check_range(
    config: ProxyConfig, knobs: Sequence[Knob], settings: npt.NDArray[np.int64]
) -> None:
    """See that no setting lies outside its knob's range (the kernel does so itself).

    Args:
        config: of the proxy.
        knobs: with their ranges.
        settings: as `settings_of` returns them.

    Raises:
        ProxyError: `knob.range`.
    """
    if not len(settings):
        knob = knobs[0]
        if config.min < knob.minimum or config.max > knob.maximum:
            raise _out_of_range(config, f"{config.min}..{config.max} of {knob.path}")
        return
    for row, values in enumerate(settings):
        for knob, value in zip(knobs, values, strict=True):
            if not knob.minimum <= value <= knob.maximum:
                raise _out_of_range(config, f"choice {row} of {knob.path}")


def _out_of_range(config: ProxyConfig, setting: str) -> ProxyError:
    return ProxyError(
        f"{config.name}: {setting}: lies outside the knob's minimum and maximum",
        code="knob.range",
        hint="correct the settings or the range",
        setting=setting,
    )
