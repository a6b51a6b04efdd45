"""Pickles a message once, its large buffers apart (protocol 5, PEP 574)."""

from __future__ import annotations

import pickle

from xcorr.core.message import Message

OUT_OF_BAND = 32 << 10  # bytes from which a buffer travels on its own


def pickled(message: Message) -> tuple[bytes, list[memoryview]]:
    """Return the pickle of a message, and the buffers of 32 KiB or more that it refers to, uncopied."""
    buffers: list[memoryview] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes >= OUT_OF_BAND:
            buffers.append(raw)
        return raw.nbytes < OUT_OF_BAND

    return pickle.dumps(tuple(message), 5, buffer_callback=stays_inside), buffers
