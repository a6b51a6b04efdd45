"""Where archives go: a folder, or an object store of the user's that fsspec can open (``s3://bucket/prefix``)."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from xcorr.core import XcorrError
from xcorr.core.files import rename_synced

MANIFEST = "manifest-sha256.txt"
PLAIN = "a folder, or an address such as s3://bucket/prefix"


class ArchiveError(XcorrError, OSError):
    """An archive that cannot be written."""


def is_address(text: str) -> bool:
    """Return whether a destination is an address, not a folder.

    >>> is_address("s3://bucket/x"), is_address("kept")
    (True, False)
    """
    return "://" in text


def local_folder(place: str) -> Path | None:
    """Return the folder that a destination is on this host; None for an object store.

    >>> str(local_folder("file:///data/x%20y")), local_folder("s3://bucket/x")
    ('/data/x y', None)
    """
    if not is_address(place):
        return Path(place).absolute()
    parts = urlsplit(place)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Destination:
    """A folder or a prefix of an object store. Raises ArchiveError if it cannot be opened.

    ``known`` are the SHA-256 of the files that its manifest lists, by name.
    """

    def __init__(self, place: str) -> None:
        self.place, self._store, self._held = place, None, -1
        folder = local_folder(place)
        if folder is None:
            self._store, self._root = _opened(place)
        else:
            self._root = str(folder)
        self.known = self._listed()

    def hold(self) -> None:
        """Let no other archive be written to this folder until :meth:`close`. Raises ArchiveError if one is."""
        if self._store is not None or self._held >= 0:
            return
        try:
            Path(self._root).mkdir(parents=True, exist_ok=True)
            self._held = os.open(self._root, os.O_RDONLY)
        except OSError as error:
            raise ArchiveError(f"{self.place}: cannot be written: {error.strerror}; choose another one") from error
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ArchiveError(f"{self.place}: another archive is being written there; wait for its end") from None
        except OSError:  # network file systems lock no folders
            return
        self.known = self._listed()

    def close(self) -> None:
        """Let others write."""
        if self._held >= 0:
            os.close(self._held)
        self._held = -1

    def _listed(self) -> dict[str, str]:
        try:
            text = self._read(MANIFEST).decode()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise ArchiveError(f"{self.place}: its {MANIFEST} cannot be read: {error}") from error
        lines = (line.partition("  ") for line in text.splitlines() if line)
        return {name: digest for digest, _, name in lines}

    def _read(self, name: str) -> bytes:
        if self._store is None:
            return Path(self._root, name).read_bytes()
        found: bytes = self._store.cat_file(f"{self._root}/{name}")
        return found

    def has(self, name: str, digest: str, size: int) -> bool:
        """Return whether a file is there with these contents. In an object store, manifest and size decide."""
        try:
            if self._store is None:
                return sha256(Path(self._root, name)) == digest
            return self.known.get(name) == digest and bool(self._store.size(self._at(name)) == size)
        except OSError:  # not there, or not to be read: then writing says why
            return False

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def put(self, path: Path, name: str) -> None:
        """Write a file; it is visible only once it is whole."""
        try:
            if self._store is None:
                target = Path(self._root, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
                try:
                    shutil.copyfile(path, temporary)
                    rename_synced(temporary, target)
                finally:
                    temporary.unlink(missing_ok=True)
            else:
                self._store.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
                self._store.put_file(str(path), self._at(name))
        except OSError as error:
            raise ArchiveError(f"{self.place}: cannot write {name}: {error}; run again, it goes on") from error

    def list_in_manifest(self, digests: dict[str, str], scratch: Path) -> None:
        """Write the manifest: what it lists now, which others may have added to, and these files."""
        self.known = self._listed() | digests
        text = "".join(f"{digest}  {name}\n" for name, digest in sorted(self.known.items()))
        made = scratch / MANIFEST
        made.write_text(text, "utf-8")
        self.put(made, MANIFEST)


def _opened(place: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise ArchiveError(f"{place}: object stores need a package: pip install 'xcorr[archive]'") from None
    try:
        store, root = fsspec.core.url_to_fs(place)
    except (ImportError, ValueError, OSError) as error:
        raise ArchiveError(f"{place}: cannot be opened: {error}; name {PLAIN}") from error
    return store, str(root).rstrip("/")
