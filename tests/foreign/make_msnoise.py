"""A project of MSNoise, made by MSNoise itself: ``python make_msnoise.py FOLDER``."""

import subprocess
import sys
from pathlib import Path

from signals import DELAYS, PLACES, START, traces

SETTINGS = {
    "data_structure": "SDS", "startdate": "2019-01-01", "enddate": "2019-01-02", "cc_sampling_rate": "4.0",
    "maxlag": "30", "corr_duration": "1800", "keep_all": "Y", "keep_days": "Y", "preprocess_highpass": "0.01",
    "preprocess_lowpass": "1.8", "components_to_compute": "ZZ", "mov_stack": "1", "remove_response": "N",
    "ref_begin": "2019-01-01", "ref_end": "2019-01-02", "export_format": "BOTH",
}  # fmt: skip


def main(folder):
    folder.mkdir()

    def msnoise(*arguments):
        program = Path(sys.executable).with_name("msnoise")
        subprocess.run([str(program), *arguments], cwd=folder, check=True)

    for day in range(2):
        for code, trace in traces(START + day * 86_400, 86_400, day).items():
            place = folder / "sds" / "2019" / "CI" / code / "BHZ.D"
            place.mkdir(parents=True, exist_ok=True)
            trace.write(str(place / f"CI.{code}..BHZ.D.2019.{1 + day:03d}"), format="MSEED")
    msnoise("db", "init", "--tech", "1")
    for name, value in {**SETTINGS, "data_folder": str(folder / "sds")}.items():
        msnoise("config", "set", f"{name}={value}")
    msnoise("populate")
    for code in DELAYS:
        latitude, longitude = PLACES[code]
        msnoise(
            "db", "execute", f"update stations set X={longitude}, Y={latitude}, altitude=100, coordinates='DEG', "
            f"instrument='S', used=1 where sta='{code}'",
        )  # fmt: skip
    msnoise(
        "db", "execute", "insert into filters (low, mwcs_low, high, mwcs_high, rms_threshold, mwcs_wlen, mwcs_step, "
        "used) values (0.05, 0.1, 1.5, 1.0, 0, 10, 5, 1)",
    )  # fmt: skip
    msnoise("scan_archive", "--init")
    msnoise("new_jobs", "--init")
    msnoise("compute_cc")
    msnoise("stack", "-r")
    msnoise("reset", "STACK")
    msnoise("stack", "-m")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
