"""Correlations of yam, made by yam and obspyh5 themselves: ``python make_yam.py FILE``."""

import sys

import obspy
import yam.io  # which sets the names of groups
from signals import START, traces
from yam.correlate import correlate_traces

if __name__ == "__main__":
    found = obspy.Stream()
    for k in range(4):
        of = traces(START + 1800 * k, 1800, k)
        for first, second in (("AAA", "BBB"), ("AAA", "CCC"), ("BBB", "CCC")):
            one = correlate_traces(of[first], of[second], 30)
            one.stats.key = "c1"
            found.append(one)
    found.write(sys.argv[1], "H5")
    assert yam.io.INDEX
