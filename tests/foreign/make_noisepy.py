"""Stores of NoisePy, made by NoisePy itself: ``python make_noisepy.py FOLDER``."""

import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import obspy.core.inventory as stationxml
import pyasdf
from datetimerange import DateTimeRange
from noisepy.seis import cross_correlate
from noisepy.seis.io.asdfstore import ASDFCCStore, ASDFRawDataStore, ASDFStackStore
from noisepy.seis.io.datatypes import ConfigParameters, RmResp, Stack
from noisepy.seis.io.zarrstore import ZarrCCStore, ZarrStackStore
from signals import PLACES, RATE, START, traces

HOURS = 12
NAME = "%Y_%m_%d_%H_%M_%S"
STORES = {"asdf": (ASDFCCStore, ASDFStackStore), "zarr": (ZarrCCStore, ZarrStackStore)}


def raw(folder):
    folder.mkdir()
    for k in range(2):
        start = START + k * HOURS * 3600
        end = start + HOURS * 3600
        with pyasdf.ASDFDataSet(str(folder / f"{start.strftime(NAME)}T{end.strftime(NAME)}.h5"), mpi=False) as file:
            for code, trace in traces(start, HOURS * 3600, k).items():
                place = (*PLACES[code], 100.0)
                channel = stationxml.Channel("BHZ", "", *place, 0.0)
                station = stationxml.Station(code, *place, channels=[channel])
                file.add_stationxml(stationxml.Inventory([stationxml.Network("CI", [station])]))
                file.add_waveforms(trace, tag="bhz_00")


def config(substack):
    day = datetime(2019, 1, 1, tzinfo=timezone.utc)
    return ConfigParameters(
        start_date=day, end_date=day.replace(day=2), sampling_rate=RATE, cc_len=1800, step=450.0, inc_hours=HOURS,
        maxlag=30, freqmin=0.05, freqmax=1.5, ncomp=1, rm_resp=RmResp.NO, substack=substack, substack_windows=1,
        networks=["CI"], stations=["*"],
    )  # fmt: skip


def main(folder):
    raw(folder / "raw")
    for kind, (correlations, stacks) in STORES.items():
        for substack in (False, True):
            place = folder / f"{kind}-{'substacks' if substack else 'whole'}"
            store = correlations(str(place))
            cross_correlate(ASDFRawDataStore(str(folder / "raw")), config(substack), store)
        found = stacks(str(folder / f"{kind}-stacks"))
        day = DateTimeRange(config(False).start_date, config(False).end_date)
        for first, second in store.get_station_pairs():
            of_pair = [cc for span in store.get_timespans(first, second) for cc in store.read(span, first, second)]
            mean = np.nanmean([np.atleast_2d(cc.data).mean(axis=0) for cc in of_pair], axis=0).astype("f4")
            about = {**of_pair[0].parameters, "substack": False, "time": day.start_datetime.timestamp(), "ngood": 7}
            found.append(day, first, second, [Stack("ZZ", "Allstack_linear", about, mean)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
