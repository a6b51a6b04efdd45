"""Prints the version, which is in pyproject.toml only."""

import tomllib
from pathlib import Path

print(tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"])
