"""The campaigns that are served: open files, and columns kept between requests while the files do not change."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from xcorr.core.errors import nearest
from xcorr.network.roster import Roster
from xcorr.pes.stacking.result_file import NAME as RESULTS
from xcorr.results import Results, ResultsError
from xcorr.results.pair_table import PairTable, require_stack
from xcorr.settings import Settings
from xcorr.store.accounts import Availability, availability, slot_names
from xcorr.store.folder import CampaignError, frozen_settings
from xcorr.store.ledger_reader import NAME as LEDGER
from xcorr.store.ledger_reader import LedgerReader
from xcorr.web.problems import Problem, busy

KEPT = 12  # answers of each campaign that are kept, such as columns of a stack
HEAVY, WAIT_S = 4, 20.0  # requests at once that read series, draw or pack; how long another one waits
# the files that answers are made of; a run writes the last changes of a database beside it
OF_LEDGER = (LEDGER, f"{LEDGER}-wal")
OF_STORE = ("provenance/*.sqlite*",)
FILES = (RESULTS, *OF_LEDGER, "report.json", *OF_STORE)

T = TypeVar("T")
DRAWING = threading.Lock()  # for Matplotlib, which may be used by one thread at a time
_heavy = threading.BoundedSemaphore(HEAVY)


@contextlib.contextmanager
def heavy() -> Iterator[None]:
    """Do one of the few heavy things that may be done at once. Raises Problem 503 if the others take too long."""
    if not _heavy.acquire(timeout=WAIT_S):
        raise busy(f"{HEAVY} large requests are being answered; try again a little later")
    try:
        yield
    finally:
        _heavy.release()


class Campaign:
    """One campaign. ``name`` is that of its folder without ``.xcorr``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.name = self.folder.name.removesuffix(".xcorr")
        self._lock = threading.RLock()
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    def stamp(self, *files: str) -> str:
        """Return a text that changes whenever one of the files does; names may have ``*``. Default: all."""
        found = []
        for path in (p for name in files or FILES for p in sorted(self.folder.glob(name))):
            with contextlib.suppress(FileNotFoundError):  # since it was listed
                status = path.stat()
                found.append((path.name, status.st_size, status.st_mtime_ns, status.st_ino))
        return hashlib.blake2b(repr(found).encode(), digest_size=8).hexdigest()

    def kept(self, what: Any, of: Sequence[str], make: Callable[[], T]) -> T:
        """Return what was made before from files, if they have not changed since, else make it."""
        key = what, self.stamp(*of)
        with self._lock:
            if key not in self._kept:
                made = make()
                for old in [k for k in self._kept if k[0] == what]:
                    del self._kept[old]
                self._kept[key] = made
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            found: T = self._kept[key]
            return found

    def results(self) -> Results:
        """Return the results. Raises Problem 404 if there are none yet."""
        if not (self.folder / RESULTS).is_file():
            raise Problem(404, f"campaign {self.name!r} has no results yet; a finished run writes them")
        return self.kept("results", (RESULTS,), lambda: Results(self.folder))

    def table(self, components: str = "", stack: str = "", band: str = "") -> PairTable:
        """Return the pairs with the numbers of a stack that is stored. Raises ResultsError if it is not."""
        results = self.results()
        components, stack = components or self.main_components(), stack or results.main_stack
        require_stack(results, components, stack, band)
        of = "table", components, stack, band
        return self.kept(of, (RESULTS,), lambda: PairTable(results, components, stack, band))

    def main_components(self) -> str:
        """Return ZZ if it is there, else the first component pair."""
        there = self.results().components
        return "ZZ" if "ZZ" in there else there[0]

    def row(self, first: str, second: str) -> int:
        """Return the row of a pair. Raises Problem 404 if there is none."""
        try:
            return self.results().row(first, second)
        except ResultsError as error:
            raise Problem(404, str(error)) from None

    def settings(self) -> Settings:
        """Return the settings as run."""
        return self.kept("settings", ("campaign.toml",), lambda: frozen_settings(self.folder))

    @contextlib.contextmanager
    def ledger(self) -> Iterator[LedgerReader]:
        """Open the ledger for reading."""
        with contextlib.closing(LedgerReader(self.folder, thorough=False)) as found:
            yield found

    def slots(self) -> list[str]:
        """Return ``NET.STA.C`` of every slot, by number. Raises CampaignError if the ledger has no stations yet."""
        with self.ledger() as ledger:
            roster = Roster.from_json(ledger.fact("members"))
        if roster is None:
            raise CampaignError(f"campaign {self.name!r}: the ledger lists no stations yet")
        return slot_names(roster, self.settings())

    def availability(self) -> Availability:
        """Return what was used of every slot and chunk."""
        return self.kept("availability", OF_LEDGER, lambda: availability(self.folder, thorough=False))

    def inside(self, path: str) -> Path:
        """Return a recorded file of this campaign. Raises Problem 404 if it is gone, or not inside of the campaign."""
        real = (self.folder / path).resolve()
        if not real.is_relative_to(self.folder) or not real.is_file():
            raise Problem(404, f"{path}: not in this campaign any more, or kept outside of it")
        return real


class Campaigns:
    """The campaigns of a server, by name. Raises CampaignError for a folder that holds none, or for equal names."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.by_name: dict[str, Campaign] = {}
        for folder in folders:
            frozen_settings(folder)
            one = Campaign(folder)
            if one.name in self.by_name:
                raise CampaignError(
                    f"{folder} and {self.by_name[one.name].folder} would both be called {one.name!r}; rename one folder"
                )
            self.by_name[one.name] = one

    def __getitem__(self, name: str) -> Campaign:
        """Return a campaign. Raises Problem 404 for an unknown name."""
        if name not in self.by_name:
            there = ", ".join(self.by_name)
            raise Problem(404, f"no campaign {name!r}{nearest(name, self.by_name)}; there are {there}")
        return self.by_name[name]
