"""Makes ``xcorr.h5`` independent of the shards: copies the series from the shards into it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from xcorr.pes.stacking.dimensions import name_dimensions
from xcorr.pes.stacking.result_file import NAME
from xcorr.pes.storing.shards import chunk_shape, require_space
from xcorr.pes.storing.smaller import dataset_options, find_filters, require
from xcorr.store.derived import publish, unreadable
from xcorr.store.folder import CampaignError, frozen_settings, remove_leftovers
from xcorr.store.ledger import Ledger
from xcorr.store.lock import CampaignLock


def pack(folder: Path) -> int:
    """Make ``xcorr.h5`` independent of the shards by copying their series into it. Return its size in bytes.

    Raises CampaignError if there is no result file, if it is damaged, or without settings, Locked while a run holds the
    campaign, ShardError if the disk is full.
    """
    if not (folder / NAME).is_file():
        raise CampaignError(f"there is nothing to pack in {str(folder)!r}: no {NAME}; a finished run writes it")
    with CampaignLock(folder):
        remove_leftovers(folder)
        if text := unreadable(folder / NAME):
            raise CampaignError(f"{folder / NAME}: {text}; xcorr run with the same list writes it again")
        temporary = folder / f".{NAME}.pack.part"
        _copy_all(folder / NAME, temporary, frozen_settings(folder).stack.compression)
        with contextlib.closing(Ledger(folder)) as ledger:
            publish(ledger, temporary, folder / NAME)
            ledger.seal()
    return (folder / NAME).stat().st_size


def _copy_all(path: Path, temporary: Path, compression: str) -> None:
    """Copy a result file. Virtual datasets become real ones, compressed as shards are.

    A dataset with several names keeps all its names.
    """
    import h5py

    find_filters()
    require(compression)
    with h5py.File(path) as source:
        sizes: list[int] = []
        source.visititems(lambda _, item: sizes.append(getattr(item, "nbytes", 0)))
        require_space(path.parent, sum(sizes))
        with h5py.File(temporary, "w", libver="latest") as target:
            target.attrs.update(source.attrs)
            first_name: dict[Any, str] = {}

            def copy(name: str, _: Any) -> None:
                item = source[name]
                known = first_name.setdefault(h5py.h5o.get_info(item.id).addr, name)
                if known != name:
                    target[name] = target[known]
                elif isinstance(item, h5py.Group):
                    target.create_group(name).attrs.update(item.attrs)
                elif item.is_virtual:
                    shape = (*(1,) * (item.ndim - 2), *chunk_shape(item.shape[-1], item.shape[-2]))
                    how = {"chunks": shape, "fillvalue": item.fillvalue, **dataset_options(compression)}
                    made = target.create_dataset(name, item.shape, item.dtype, **how)
                    for part in made.iter_chunks():
                        made[part] = item[part]
                else:
                    source.copy(item, target, name=name, without_attrs=True)

            source.visititems_links(copy)  # visititems would name a dataset with several names only once
            name_dimensions(target, str(source.attrs.get("units", "")))
