"""Shards that stay open, because a worker reads them several times: opening one takes about a millisecond."""

from __future__ import annotations

import resource
from collections import OrderedDict
from pathlib import Path
from typing import Any

FILES = 256  # HDF5 takes half a megabyte of memory for every open file


class OpenShards:
    """The open shards of a folder. The one that was not used for longest is closed where too many would be open."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._files: OrderedDict[str, Any] = OrderedDict()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = FILES if soft == resource.RLIM_INFINITY else max(1, min(FILES, soft // 4))

    def __getitem__(self, path: str) -> Any:
        """Return the shard at a path relative to the folder, as an h5py group."""
        import h5py

        name, _, group = path.partition("#")
        if name in self._files:
            self._files.move_to_end(name)
        else:
            if len(self._files) >= self._most:
                self._files.popitem(last=False)[1].close()
            self._files[name] = h5py.File(Path(self.folder, name), rdcc_nbytes=0)  # each HDF5 chunk is read once
        return self._files[name][group] if group else self._files[name]

    def close(self) -> None:
        """Close all files."""
        while self._files:
            self._files.popitem()[1].close()
