"""Correlates stations alone and among others, and compares the bits: a program, whose caller chooses BLAS's kernels."""

import numpy as np
from test_pes_correlate import correlate

from xcorr.pes.correlating.layout import Layout
from xcorr.pes.correlating.tiles import units

MANY, BAND, LENGTH = 30, (0.05, 1.0), 1200


def main():
    for windows, letters, lags in ((1, "Z", 20), (5, "Z", 20), (24, "ZN", 20), (37, "Z", 500)):
        rng = np.random.default_rng(windows)
        data = rng.standard_normal((MANY, len(letters), windows * LENGTH)).astype(np.float32)
        pairs = tuple(a + b for a in letters for b in letters)
        how = {"length": LENGTH, "components": tuple(letters), "pairs": pairs, "block": 64}
        whole, _ = correlate(data, lags, BAND, **how)
        for few in (2, 3, 5, 7, 9, 13, 17, 25):
            found, _ = correlate(data[MANY - few :], lags, BAND, **how)
            layouts = Layout(few, tuple(letters), pairs, 64), Layout(MANY, tuple(letters), pairs, 64)
            for row, (i, j) in enumerate(zip(*layouts[0].pair_indices(), strict=True)):
                same = layouts[1].row(i + MANY - few, j + MANY - few)
                for pair in pairs:
                    assert found[pair][0][row].tobytes() == whole[pair][0][same].tobytes(), (windows, few, i, j, pair)
    print("same bits, in units of", units())
