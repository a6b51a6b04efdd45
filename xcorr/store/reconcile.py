"""Makes the ledger agree with the shards in the folder, and sets aside what is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xcorr.core.files import rename_synced
from xcorr.pes.storing.aside import set_aside
from xcorr.pes.storing.shards import ShardContent, ShardError, compact_name, in_larger, part_names, read_shard
from xcorr.store import doubts
from xcorr.store.folder import require_own_shards
from xcorr.store.ledger import Ledger
from xcorr.store.ledger_reader import NAME, LedgerReader

Found = tuple[str, tuple[int, int], ShardContent]  # path, size and time of change, content


def reconcile(ledger: Ledger) -> list[str]:
    """Make the ledger agree with the shards in the folder; return a line for each problem found.

    Shards that are not in the ledger, or that have changed, are read in full. Shards that are damaged, or were made
    with other settings, are set aside, so that the run recomputes them. Raises ShardBusy if a shard
    cannot be read now; that shard stays where it is. Raises CampaignError if all shards were made with other settings.
    """
    require_own_shards(ledger.folder, ledger.settings_hash)
    wrong: list[str] = []
    if (place := ledger.begin()) is not None:
        wrong.append(f"{NAME}: damaged; set aside as {_told(ledger, place)}, and restored from the shards")
    known = ledger.known()
    in_file, doubted = files_of(known), doubts.noted(ledger.folder)
    removed = {s.path for s in ledger.shards() if not s.kept}
    misplaced: list[tuple[Path, str]] = []  # where a file is now, and where it belongs
    for file in sorted((ledger.folder / "shards").glob("*.h5")):
        if f"shards/{file.name}" in removed and ledger.removes_series:
            file.unlink()  # an earlier run stacked its series and was stopped before it removed the file
            continue
        inside = in_file.get(f"shards/{file.name}", {})
        if looks_known(file, inside) and file.name not in doubted:
            for path in inside:
                del known[path]
            continue
        try:
            if (right := _right_name(file)) != f"shards/{file.name}":
                misplaced.append((set_aside(file), right))  # first, as its place may be taken by another of these
                continue
            for path, status, content in _contents(ledger, file, wrong):
                _enter(ledger, path, status, content)
                known.pop(path, None)
        except ShardError as error:
            wrong.append(f"{error}; set aside as {_told(ledger, set_aside(file))}")
    lost = [path for path in known if path in ledger.known()]  # not entered again under another path
    _forget(ledger, lost, wrong)
    for place, right in misplaced:
        if (ledger.folder / right).exists():
            wrong.append(f"{right}: found under another name, but there is one; set aside as {_told(ledger, place)}")
            continue
        place.rename(ledger.folder / right)
        wrong.append(f"{right}: found under another name, and put back")
        try:
            for path, status, content in _contents(ledger, ledger.folder / right, wrong):
                _enter(ledger, path, status, content)
                lost = [other for other in lost if other != path]
        except ShardError as error:
            wrong.append(f"{error}; set aside as {_told(ledger, set_aside(ledger.folder / right))}")
    named = " ".join(wrong)
    wrong += [f"{Path(path).name}: missing" for path in lost if Path(path.partition("#")[0]).name not in named]
    return wrong


def _right_name(file: Path) -> str:
    """Return the path that a file should have, by what it holds. Raises ShardError if it cannot be read."""
    parts = part_names(file)
    return compact_name(f"shards/{parts[0]}") if parts else read_shard(file).path


def redundant(ledger: LedgerReader) -> Iterator[Path]:
    """Yield the files of shards that are in a larger file now: a compaction was stopped before it removed them."""
    known = ledger.known()
    inside = {f"shards/{path.partition('#')[2]}": name for path, (_, _, name) in known.items() if "#" in path}
    for file in (ledger.folder / "shards").glob("*.h5"):
        if f"shards/{file.name}" in inside and f"shards/{file.name}" not in known:
            yield file


def remove_redundant(ledger: Ledger) -> None:
    """Remove the files of shards that are in a larger file, once ``xcorr.h5`` no longer shows them."""
    for file in list(redundant(ledger)):
        file.unlink()


def files_of(known: dict[str, tuple[int, int, str]]) -> dict[str, dict[str, tuple[int, int, str]]]:
    """Return what the ledger knows of shards, by the file that they are in."""
    in_file: dict[str, dict[str, tuple[int, int, str]]] = {}
    for path, about in known.items():
        in_file.setdefault(path.partition("#")[0], {})[path] = about
    return in_file


def looks_known(file: Path, inside: dict[str, tuple[int, int, str]]) -> bool:
    """Return whether a file has the size and the time of change that the ledger knows of the shards in it."""
    size, mtime = _status(file)
    return sum(about[0] for about in inside.values()) == size and {about[1] for about in inside.values()} == {mtime}


def _contents(ledger: Ledger, file: Path, wrong: list[str]) -> Iterator[Found]:
    """Yield the shards in a file, after reading the file in full.

    Of a damaged file of several shards, the whole ones are stored again as files of their own.
    """
    parts = part_names(file)
    if not parts:
        yield f"shards/{file.name}", _status(file), _checked(ledger, file)
        return
    good: dict[str, ShardContent] = {}
    for part in parts:
        try:
            good[part] = _checked(ledger, file, part)
        except ShardError as error:
            wrong.append(f"{error} (in {part})")
    if len(good) == len(parts):
        size, mtime = _status(file)
        for k, (part, content) in enumerate(good.items()):
            yield f"shards/{file.name}#{part}", (share(size, len(parts), k), mtime), content
        return
    place = set_aside(file)
    wrong.append(f"{file.name}: damaged; set aside as {_told(ledger, place)}, {len(good)} of {len(parts)} shards saved")
    for part in parts:
        single = file.parent / part
        if part in good and not single.exists():
            _extract(place, part, single)
        if single.exists():
            yield f"shards/{part}", _status(single), _checked(ledger, single)


def _checked(ledger: Ledger, file: Path, part: str = "") -> ShardContent:
    content = read_shard(file, thorough=True, part=part)
    if content.settings_hash != ledger.settings_hash:
        raise ShardError(f"{file.name}: made with other settings")
    return content


def _enter(ledger: Ledger, path: str, status: tuple[int, int], content: ShardContent) -> None:
    """Enter a shard. A file of its own that differs from the shard in a larger file is newer, and stays entered."""
    single = ledger.folder / content.path
    if "#" in path and single.exists() and _id_of(single) not in (None, content.id):
        return
    if "#" not in path and _id_in_larger(ledger, content.path) == content.id:
        return  # its row is, or will be, that of the larger file
    ledger.enter(path, status, content)


def _id_in_larger(ledger: Ledger, name: str) -> str | None:
    """Return the id that a shard has in a file of several; None if it is in none that can be read."""
    try:
        larger = in_larger(ledger.folder, name)
    except ShardError:
        return None
    return _id_of(*larger) if larger is not None else None


def _id_of(file: Path, part: str = "") -> str | None:
    """Return the id of a shard; None if it cannot be read: the file is then set aside when its turn comes."""
    try:
        return read_shard(file, part=part).id
    except ShardError:
        return None


def _extract(source: Path, part: str, target: Path) -> None:
    """Store a shard of a larger file as a file of its own."""
    import h5py

    temporary = target.with_name(f".{target.name}.part")
    with h5py.File(source) as old, h5py.File(temporary, "w", libver="latest") as new:
        new.attrs.update(old[part].attrs)
        for name in old[part]:
            old.copy(f"{part}/{name}", new, name=name)
    rename_synced(temporary, target)


def _forget(ledger: Ledger, paths: list[str], wrong: list[str]) -> None:
    """Delete the rows of shards; the accounts of their chunks then are those of the shards that are left.

    One of these that turns out to be damaged is set aside and forgotten too, and added to what is ``wrong``.
    """
    gone, starts = list(paths), set[int]()
    while gone:
        starts |= ledger.forget(gone)
        gone = []
        for shard in [s for s in ledger.shards() if s.start_ns in starts and s.kept]:
            name, _, part = shard.path.partition("#")
            file = ledger.folder / name
            try:
                ledger.enter(shard.path, (shard.bytes, file.stat().st_mtime_ns), read_shard(file, part=part))
            except ShardError:
                gone = _give_up(ledger, file, wrong)
                break


def _give_up(ledger: Ledger, file: Path, wrong: list[str]) -> list[str]:
    """Set a damaged file aside, save the whole shards in it, and return the paths of the others."""
    try:
        for path, status, content in _contents(ledger, file, wrong):
            ledger.enter(path, status, content)
    except ShardError as error:
        wrong.append(f"{error}; set aside as {_told(ledger, set_aside(file))}")
    return [path for path in ledger.known() if path.partition("#")[0] == f"shards/{file.name}"]


def share(size: int, count: int, number: int) -> int:
    """Return the part of a size that is entered for one of several shards in a file; the parts add up to the size."""
    return size // count + (size % count if number == 0 else 0)


def _status(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _told(ledger: Ledger, place: Path) -> Path:
    return place.relative_to(ledger.folder)
