"""The settings of a run: their schema, the rules that hold between them, and TOML."""

from xcorr.settings.schema import Settings, SettingsError

__all__ = ["Settings", "SettingsError"]
