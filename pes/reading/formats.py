"""Reads files with ObsPy, only in the formats listed here.

By itself ObsPy tries all its formats, and the formats that other packages add. One of its formats is Python's pickle.
ObsPy's test for that format already loads the file, so that a file in an archive could run any code. Pickled streams
are therefore read by :mod:`xcorr.pes.reading.pickled`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from xcorr.core import XcorrError
from xcorr.pes.reading.pickled import MARK, RefusedPickle, read_stream

# fmt: off
FORMATS = {
    "waveform": frozenset((
        "AH", "ALSEP_PSE", "ALSEP_WTH", "ALSEP_WTN", "CSS", "CYBERSHAKE", "DMX", "GCF", "GSE1", "GSE2",
        "KINEMETRICS_EVT", "KNET", "MSEED", "NNSA_KB_CORE", "PDAS", "Q", "REFTEK130", "RG16", "SAC", "SACXY", "SEG2",
        "SEGY", "SEISAN", "SH_ASC", "SLIST", "SU", "TSPAIR", "WAV", "WIN", "Y",
    )),
    "inventory": frozenset(("INVENTORYXML", "RESP", "SCML", "SEED", "STATIONTXT", "STATIONXML", "XSEED")),
    "event": frozenset(("QUAKEML", "SCML")),
}
# fmt: on
ONE_AT_A_TIME = threading.Lock()  # for what changes warnings and messages, which are of the whole process
PICKLE = "PICKLE"
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"PK\x03\x04": "zip"}


REFUSED = "is a Python pickle, which could run code; only pickled streams of waveforms are read"


class UnknownFormat(XcorrError, TypeError):
    """A file is in none of the formats listed here."""


class RefusedFile(UnknownFormat):
    """A file could run code."""


def unpacked(read_one: Callable[[str], list[Any]], path: str) -> list[Any]:
    """Return what a function returns of a file, or of all files packed in it (gzip, bzip2, zip, tar), joined.

    Raises UnknownFormat for a packed file that is damaged.
    """
    from obspy.core.util.decorator import uncompress_file

    with open(path, "rb") as file:
        head = file.read(4)
    unpacks = [False]

    def counted(plain: str) -> list[Any]:
        unpacks[0] |= plain != path
        return read_one(plain)

    if not head:
        raise UnknownFormat(f"{path} is empty")
    try:
        return list(uncompress_file(counted)(path))
    except UnknownFormat as error:
        kind = next((name for mark, name in PACKED.items() if head.startswith(mark)), None)
        if kind is None or unpacks[0]:
            raise
        raise UnknownFormat(
            f"{path} is a damaged {kind} file, one that was cut, or one whose name lacks the usual ending"
        ) from error


def read(kind: str, path: str) -> Any:
    """Return what ObsPy reads from a file, which may be packed: an Inventory, or for ``event`` a Catalog.

    Raises UnknownFormat, and whatever ObsPy raises on damage.
    """
    from obspy.core.util.decorator import uncompress_file

    return uncompress_file(lambda plain: read_plain(kind, plain, path))(path)


def read_plain(kind: str, plain: str, name: str, **options: Any) -> Any:
    """Return what ObsPy reads from a file that is not packed: a Stream for ``waveform``, else as :func:`read`.

    ``name`` is that of the file before it was unpacked. ``options`` go to the reader of the format. Raises as
    :func:`read`, and RefusedFile.
    """
    from obspy.core.util.base import _read_from_plugin

    found = _detected(kind, plain, name)
    if found == PICKLE:
        return _unpickled(plain, name)
    # private, because obspy.read also takes formats that are not listed
    return _read_from_plugin(kind, plain, format=found, **options)[0]


def _detected(kind: str, plain: str, path: str) -> str:
    """Return the format of a file, tried in ObsPy's order. ``path``: the name of the file before unpacking."""
    from obspy.core.util.base import ENTRY_POINTS
    from obspy.core.util.misc import buffered_load_entry_point

    for name, entry in ENTRY_POINTS[kind].items():
        if name in FORMATS[kind]:
            place = f"obspy.plugin.{kind}.{entry.name}"
            if buffered_load_entry_point(entry.dist.name, place, "isFormat")(plain):
                return str(name)
    with open(plain, "rb") as file:
        pickled = MARK in file.read(100)
    if pickled and kind == "waveform":
        return PICKLE
    raise UnknownFormat(
        f"{path} {REFUSED}"
        if pickled
        else f"{path} is in no {kind} format that is read ({', '.join(sorted(FORMATS[kind]))})"
    )


def _unpickled(plain: str, path: str) -> Any:
    """Return the stream in a pickle. Raises RefusedFile if the pickle holds anything else."""
    try:
        with open(plain, "rb") as file:
            return read_stream(file)
    except RefusedPickle as error:
        raise RefusedFile(f"{path} {REFUSED} ({error})") from None
