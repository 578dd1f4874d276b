"""The JSON Schema of the configuration, for editors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mlproxy.config.model import DaemonConfig, FeedConfig, PluginsConfig, ProxyOverrides
from mlproxy.plugin.registry import Registry
from mlproxy.psi.config import PsiSource

__all__ = ("json_schema",)


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False} | more


def json_schema(registry: Registry) -> dict[str, Any]:
    """The schema of the whole file (2020-12), with the loaded plugins' options."""
    definitions: dict[str, Any] = {}

    def part(model: type[BaseModel], name: str) -> dict[str, Any]:
        template = f"#/$defs/{name}.{{model}}"
        schema = model.model_json_schema(ref_template=template)
        for key, value in schema.pop("$defs", {}).items():
            definitions[f"{name}.{key}"] = value
        return schema

    subsystems = {}
    for name, factory in sorted(registry.factories.items()):
        schema = part(factory.options_model, f"subsystem-{name}")
        enabled = {"type": "boolean", "default": factory.enabled_by_default}
        critical = {"type": "array", "items": {"type": "string"}, "default": []}
        own = {"enabled": enabled, "critical": critical}
        schema["properties"] = own | schema.get("properties", {})
        subsystems[name] = schema
    overrides = part(ProxyOverrides, "proxy")
    proxies: dict[str, Any] = {}
    for name in sorted(registry.proxies()):
        proxies[name] = overrides
    # A dotted name may also be written as nested tables.
    nested = {"type": "object"}
    heads = {name.split(".", 1)[0]: nested for name in registry.proxies() if "." in name}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mlproxy configuration",
        **_object(
            {
                "daemon": part(DaemonConfig, "daemon"),
                "feed": part(FeedConfig, "feed"),
                "plugins": part(PluginsConfig, "plugins"),
                "psi": {
                    "type": "object",
                    "additionalProperties": part(PsiSource, "psi"),
                },
                "subsystem": _object(subsystems),
                "proxy": _object(heads | proxies),
            }
        ),
        "$defs": definitions,
    }
