"""Reads pickled ObsPy streams without running code of the file: only the listed classes of ObsPy and NumPy are made."""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO

# what a pickle of obspy.Stream names; each of these makes an object of plain values, and calls nothing else
CLASSES = {
    "_codecs": {"encode"},
    "__builtin__": {"object"},  # of protocols 0 to 2
    "builtins": {"object"},
    "copy_reg": {"_reconstructor"},  # of protocols 0 to 2
    "copyreg": {"_reconstructor"},
    "obspy.core.stream": {"Stream"},
    "obspy.core.trace": {"Trace", "Stats"},
    "obspy.core.util.attribdict": {"AttribDict"},
    "obspy.core.utcdatetime": {"UTCDateTime"},
}
ARRAYS = {"_reconstruct", "_frombuffer", "scalar", "ndarray", "dtype", "MaskedArray", "_mareconstruct"}
MARK = b"obspy.core.stream"  # in the first bytes of a pickle of a stream


class RefusedPickle(ValueError):
    """A pickle that names something else than a stream of waveforms is made of."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in CLASSES.get(module, ()) or (module.split(".")[0] == "numpy" and name in ARRAYS):
            return super().find_class(module, name)
        raise RefusedPickle(f"{module}.{name}")


def read_stream(file: BinaryIO) -> Any:
    """Return the ObsPy stream that a file holds. Raises RefusedPickle if it holds anything else."""
    import obspy

    stream = _Unpickler(file).load()
    if not isinstance(stream, obspy.Stream) or not all(isinstance(t, obspy.Trace) for t in stream.traces):
        raise RefusedPickle(type(stream).__name__)
    return stream
