"""Install a plugin into a plain directory, so that real discovery finds it there."""

from __future__ import annotations

from pathlib import Path

__all__ = ("install_plugin",)

METADATA = "Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"


def install_plugin(
    directory: Path, name: str, source: str | None = None, *, version: str = "0.1"
) -> str:
    """Write a module and the metadata of a distribution with one entry point.

    Args:
        directory: to be put on `sys.path` (or PYTHONPATH).
        name: of the entry point in the group `mlproxy.plugins`.
        source: Python source of the plugin's module; None: it brings the demo
            subsystem of `mlproxy.testing.sample` under the plugin's name.
        version: of the distribution.

    Returns:
        The module's name.
    """
    module = f"mlproxy_test_{name}"
    if source is None:
        source = (
            "from mlproxy import hookimpl\n"
            "from mlproxy.testing.sample import demo_factory\n\n\n"
            "@hookimpl\n"
            "def mlproxy_subsystems():\n"
            f"    return [demo_factory({name!r})]\n"
        )
    distribution = module.replace("_", "-")
    info = directory / f"{module}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    metadata = METADATA.format(distribution=distribution, version=version)
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    entry = f"[mlproxy.plugins]\n{name} = {module}\n"
    (info / "entry_points.txt").write_text(entry, encoding="utf-8")
    (directory / f"{module}.py").write_text(source, encoding="utf-8")
    return module
