"""Configuration in TOML: layers with provenance, all errors at once."""
