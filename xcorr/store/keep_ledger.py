"""The element that enters finished shards in the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xcorr.core import GenericPE
from xcorr.store.ledger import Ledger


class KeepLedger(GenericPE):
    """Enters every finished shard in the ledger at once. It has one instance, because only one may write."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._add_input("input", grouping="global")
        self._add_output("output")
        self.folder = folder

    def _preprocess(self) -> None:
        self._ledger = Ledger(Path(self.folder))

    def process(self, inputs: dict[str, Any]) -> None:
        """Enter one shard, and pass its record on."""
        self._ledger.keep(inputs["input"])
        self.write("output", inputs["input"])

    def _postprocess(self) -> None:
        self._ledger.close()
