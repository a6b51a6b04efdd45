"""Reads pickled ObsPy streams without running code of the file: only the listed classes of ObsPy and NumPy are made."""

from __future__ import annotations

import pickle
from typing import Any, BinaryIO

import numpy as np

# what a pickle of obspy.Stream names, by exact names of modules: to import another module may already run code
CLASSES = {
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
OF_ARRAYS = {
    *("numpy", "numpy.ma", "numpy.ma.core", "numpy.core.multiarray", "numpy.core.numeric"),
    *("numpy._core.multiarray", "numpy._core.numeric"),
}
MARK = b"obspy.core.stream"  # in the first bytes of a pickle of a stream


class RefusedPickle(ValueError):
    """A pickle that names something else than a stream of waveforms is made of."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # how protocols 0 to 2 hold bytes
            return _latin_1
        if name in CLASSES.get(module, ()) or (module in OF_ARRAYS and name in ARRAYS):
            return super().find_class(module, name)
        raise RefusedPickle(f"{module}.{name}")


def _latin_1(text: str, codec: str) -> bytes:
    if codec != "latin1" or not isinstance(text, str):
        raise RefusedPickle(f"the codec {codec!r:.40}")
    return text.encode("latin-1")


def read_stream(file: BinaryIO) -> Any:
    """Return the ObsPy stream that a file holds. Raises RefusedPickle if it holds anything else."""
    import obspy

    stream = _Unpickler(file).load()
    if not isinstance(stream, obspy.Stream) or not all(map(_is_trace, stream.traces)):
        raise RefusedPickle(type(stream).__name__)
    return stream


def _is_trace(trace: Any) -> bool:
    """Return whether a trace has what a reader makes, because a pickle may set anything."""
    import obspy

    if not isinstance(trace, obspy.Trace) or not isinstance(trace.stats, obspy.core.Stats):
        return False
    codes = [trace.stats.get(name) for name in ("network", "station", "location", "channel")]
    times = isinstance(trace.stats.get("starttime"), obspy.UTCDateTime)
    numbers = isinstance(trace.data, np.ndarray) and trace.data.ndim == 1 and trace.data.dtype.kind in "iuf"
    return times and numbers and all(isinstance(c, str) and len(c) < 100 for c in codes)
