"""Series in fewer bytes: values rounded to fewer bits, and filters of HDF5 that leave such bits out."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from xcorr.core import XcorrError
from xcorr.pes.items import Float32

COMPRESSIONS = ("none", "gzip", "lz4")
ALL_BITS = 23  # of the mantissa of a float32
BITSHUFFLE, AUTOMATIC, LZ4 = 32008, 0, 2  # number of the filter, size of its blocks, and its compressor
UNCOMPRESSED_BITS = 5.5  # of 32, about, that sign and exponent take besides the mantissa's
# HDF5 names the filter, or the folder in which it has looked
MISSING = re.compile(r"required filter|can't open directory \(\S*plugin")
HOW = "is compressed with bitshuffle and LZ4 (stack.compression); pip install 'xcorr[compression]' reads it"


class CompressionError(XcorrError, OSError):
    """A compression that this installation does not have."""


def rounded(data: Float32, bits: int) -> Float32:
    """Return values rounded to so many bits of the mantissa, the nearest even one in the middle.

    The relative error is at most 2^-(bits + 1) (Kloewer et al. 2021, Nature Computational Science 1, "bitrounding").

    >>> rounded(np.array([1.0, 1.26, -3.3, np.nan], np.float32), 2)
    array([ 1.  ,  1.25, -3.5 ,   nan], dtype=float32)
    """
    if bits >= ALL_BITS:
        return data
    dropped = np.uint32(ALL_BITS - bits)
    whole = np.ascontiguousarray(data, np.float32).view(np.uint32)
    half = (np.uint32(1) << (dropped - np.uint32(1))) - np.uint32(1)
    last = (whole >> dropped) & np.uint32(1)
    found: Float32 = ((whole + half + last) >> dropped << dropped).view(np.float32)
    return np.where(np.isfinite(data), found, data)


def dataset_options(compression: str) -> dict[str, Any]:
    """Return what h5py needs to make a dataset with checksums and a compression."""
    options: dict[str, Any] = {"fletcher32": True}
    if compression == "gzip":
        options |= {"shuffle": True, "compression": "gzip", "compression_opts": 1}
    elif compression == "lz4":
        options |= {"compression": BITSHUFFLE, "compression_opts": (AUTOMATIC, LZ4)}
    return options


def share_of_bytes(compression: str, bits: int) -> float:
    """Return about which share of the bytes of float32 compressed series take."""
    return 1.0 if compression == "none" else min(1.0, (bits + UNCOMPRESSED_BITS) / 32)


@functools.cache
def find_filters() -> None:
    """Tell HDF5 where the package hdf5plugin, if it is installed, has the filters for reading.

    HDF5 loads a filter when it first meets its data; importing the package would load all of them.
    """
    import h5py

    package = importlib.util.find_spec("hdf5plugin")
    if package is not None and package.origin is not None:
        h5py.h5pl.append(os.fsencode(os.path.join(os.path.dirname(package.origin), "plugins")))


def require(compression: str) -> None:
    """Make this process able to write with a compression. Raises CompressionError if it is not installed."""
    if compression != "lz4":
        return
    try:
        import hdf5plugin
    except ImportError as error:
        raise CompressionError(
            'stack.compression = "lz4" needs the filters of HDF5: pip install \'xcorr[compression]\', or choose "gzip"'
        ) from error
    # also if HDF5 has loaded the filter for reading: loaded in that way, it cannot write
    hdf5plugin.register("bshuf", force=True)


def is_missing(error: Exception) -> bool:
    """Return whether HDF5 could not read data because a filter is not installed."""
    return isinstance(error, OSError) and MISSING.search(str(error)) is not None


@contextlib.contextmanager
def telling_filters(name: str) -> Iterator[None]:
    """Turn the error of a filter that is not installed into CompressionError; ``name``: what is read."""
    find_filters()
    try:
        yield
    except OSError as error:
        if is_missing(error):
            raise CompressionError(f"{name} {HOW}") from error
        raise
