"""A configuration file with every option, commented, with its default."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mlproxy.config.model import DaemonConfig, FeedConfig, PluginsConfig, ProxyOverrides
from mlproxy.errors import ConfigError
from mlproxy.plugin.registry import Registry
from mlproxy.psi.config import BUILT_IN, PsiSource

__all__ = ("sample_text", "toml_value")


def toml_value(value: Any) -> str:
    """Write a value as TOML.

    Example:
        >>> toml_value({"a": [1, 2.5, True, "x"]})
        '{ a = [1, 2.5, true, "x"] }'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's too, but for the DEL character.
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(str(k))} = {toml_value(v)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"[{', '.join(toml_value(v) for v in value)}]"
    return toml_value(str(value))


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
    return name if bare else json.dumps(name)


def _comment(text: str, width: int = 88) -> Iterator[str]:
    for line in textwrap.wrap(text, width):
        yield f"# {line}"


def _option(name: str, info: FieldInfo) -> Iterator[str]:
    if info.description:
        yield from _comment(info.description)
    default = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, BaseModel):
        default = default.model_dump(mode="json", exclude_none=True)
    if default is PydanticUndefined:
        yield "# (must be set)"
        default = next(iter(info.examples or []), "")
    elif default is None:
        yield "# (not set by default)"
        default = next(iter(info.examples or []), None)
    if default is None:
        yield f"#{_key(name)} ="
    else:
        yield f"#{_key(name)} = {toml_value(default)}"


def _section(header: str, model: type[BaseModel], about: str = "") -> Iterator[str]:
    yield ""
    yield from _comment(about or (model.__doc__ or "").strip().split("\n", 1)[0])
    yield f"[{header}]"
    for name, info in model.model_fields.items():
        yield from _option(info.alias or name, info)


def _psi_sections() -> Iterator[str]:
    yield ""
    yield from _comment(
        "Pressure sources, for the key `critical` of a subsystem. Those named memory, io and cpu"
        " are there without a table; others as you like, with a [psi.NAME] each."
    )
    for number, (name, source) in enumerate(BUILT_IN.items()):
        if number:
            yield ""
        yield f"#[psi.{name}]"
        if not number:
            for key, info in PsiSource.model_fields.items():
                yield from _option(key, info)
        else:
            yield from (
                f"#{key} = {toml_value(value)}"
                for key, value in source.model_dump(exclude_defaults=True).items()
            )


def _plugin_sections(registry: Registry, plugin: str | None) -> Iterator[str]:
    for name, factory in sorted(registry.factories.items()):
        if plugin in (None, name, registry.owners.get(name)):
            lines = list(_section(f"subsystem.{name}", factory.options_model, factory.description))
            at = lines.index(f"[subsystem.{name}]") + 1
            enabled = toml_value(factory.enabled_by_default)
            lines[at:at] = [
                "# whether this subsystem runs",
                f"#enabled = {enabled}",
                "# pressure sources (see [psi.NAME]) that put its proxies into emergency",
                "#critical = []",
            ]
            yield from lines
            for proxy in factory.proxies:
                yield ""
                about = f"Safety numbers of the proxy {proxy}, instead of the plugin's own."
                yield from _comment(about)
                yield f"#[proxy.{json.dumps(proxy)}]"
                if proxy == factory.proxies[0]:
                    for key, info in ProxyOverrides.model_fields.items():
                        yield from _option(key, info)


def sample_text(registry: Registry, plugin: str | None = None) -> str:
    """The sample: all sections, or those of one plugin (or subsystem).

    Raises:
        ConfigError: `config.unknown_plugin`, no loaded plugin or subsystem has that name.
    """
    lines: list[str] = []
    if plugin is None:
        lines += _comment(
            "mlproxy's configuration. Order, later wins: defaults, this file, conf.d/*.toml "
            "beside it, environment (MLPROXY__SECTION__KEY=value), mlproxy -o section.key=value."
        )
        lines += _section("daemon", DaemonConfig)
        lines += _section("feed", FeedConfig)
        lines += _section("plugins", PluginsConfig)
        lines += _psi_sections()
    found = list(_plugin_sections(registry, plugin))
    if plugin is not None and not found:
        raise ConfigError(
            f"no loaded plugin {plugin!r}",
            code="config.unknown_plugin",
            hint="mlproxy plugins list shows what there is",
        )
    return "\n".join([*lines, *found]).lstrip("\n") + "\n"
