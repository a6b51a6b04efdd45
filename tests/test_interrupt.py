"""Ctrl-C: it waits for a safe moment, the run says what is kept, and the next run goes on."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from archives import SETTINGS, station_list, write

from xcorr import results
from xcorr.core import interrupt
from xcorr.store.verify import problems

MAPPINGS = ("sequential", "threads", "processes")
CODES = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")


def press(times=1):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def seen_within(block, steps, **options):
    """What steps append to a list within a block, and whether it ends with a KeyboardInterrupt."""
    seen = []
    try:
        with block(**options):
            steps(seen)
        seen.append("went on")
    except KeyboardInterrupt:
        seen.append("interrupted")
    return seen


def test_held_back_until_asked():
    told = []

    def steps(seen):
        press()
        seen.append("once")
        interrupt.check()
        seen.append("never")

    assert seen_within(interrupt.held, steps, tell=lambda: told.append("told")) == ["once", "interrupted"]
    assert told == ["told"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    interrupt.check()  # raised once


def test_the_end_of_the_block_is_a_safe_moment():
    assert seen_within(interrupt.held, lambda seen: press()) == ["interrupted"]
    assert seen_within(interrupt.held, lambda seen: None) == ["went on"]


def test_pressed_twice_it_comes_at_once():
    def steps(seen):
        press()
        seen.append("once")
        press()
        seen.append("never")

    assert seen_within(interrupt.held, steps) == ["once", "interrupted"]


def test_shielded_code_is_not_disturbed_however_often_it_comes():
    def steps(seen):
        press(3)
        seen.append("whole")

    assert seen_within(interrupt.shielded, steps) == ["whole", "interrupted"]


def test_it_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(interrupt, "PATIENCE_S", 0.2)

    def steps(seen):
        press()
        time.sleep(10)

    begin = time.monotonic()
    assert seen_within(interrupt.held, steps) == ["interrupted"]
    assert time.monotonic() - begin < 5


def test_other_threads_and_other_handlers_are_left_alone():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("own"))
    try:
        with interrupt.held():
            press()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["own"]

    def elsewhere():
        with interrupt.held(), interrupt.shielded():
            interrupt.check()
            seen.append("thread")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == ["own", "thread"]


def test_a_job_in_the_background_goes_on_ignoring_it(archive, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start(archive, tmp_path / "x.xcorr", "sequential")
    finally:
        signal.signal(signal.SIGINT, before)
    for _ in range(10):
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 0, text


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    for code in CODES:
        write(folder / "sds", code)
    station_list(folder, *CODES)
    return folder


def start(archive, folder, mapping):
    options = [f"--set={s}.{k}={v!r}" for s, keys in SETTINGS.items() for k, v in keys.items()]
    options += ["--set=data.chunk_s=600", "--set=window.length_s=300", "--set=window.step_s=300"]
    program = str(Path(sys.executable).with_name("xcorr"))
    command = [program, "run", str(archive / "stations.txt"), "--source", f"sds:{archive / 'sds'}"]
    command += ["-o", str(folder), "-m", mapping, *options]
    command += ["-n", "2"] if mapping != "sequential" else []
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupted(archive, folder, mapping, after):
    """Interrupt a run after some seconds, and return its exit code when it has ended as it should."""
    process = start(archive, folder, mapping)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, text = process.communicate(timeout=60)
    assert time.monotonic() - sent < 5.0
    if process.returncode == -signal.SIGINT and after < 0.2:
        return None  # Python itself had not begun
    assert process.returncode in (0, 130, 1), (after, process.returncode, text)
    if process.returncode:
        lines = [line for line in text.splitlines() if not line.startswith("20")]
        assert len(lines) == 1, (after, text)
        assert lines[0].startswith("interrupted"), (after, text)
        assert "kept" in lines[0] or "nothing was" in lines[0] or "before anything" in lines[0], (after, text)
    return process.returncode


def go_on(archive, folder, mapping):
    """Let a run go on after an interrupt, and see that all is there."""
    process = start(archive, folder, mapping)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert list(problems(folder)) == []
    with results.open(folder) as found:
        assert len(found.pieces) == 12


def many(archive, tmp_path, mapping, count):
    """Interrupt so many runs, each checked by :func:`interrupted` and :func:`go_on`; return their exit codes."""
    whole = 60.0
    for name in ("first", "second"):
        begin = time.monotonic()
        go_on(archive, tmp_path / f"{name}.xcorr", mapping)
        whole = min(whole, time.monotonic() - begin)
    rng = random.Random(mapping)
    codes, folder = [], tmp_path / "0.xcorr"
    for k in range(count):
        codes.append(interrupted(archive, folder, mapping, rng.uniform(0.05, whole)))
        if codes[-1] != 130 or k % 4 == 3:  # up to four interrupts of one campaign, then to its end
            go_on(archive, folder, mapping)
            folder = tmp_path / f"{k + 1}.xcorr"
    return codes


@pytest.mark.parametrize("mapping", [pytest.param(m, marks=pytest.mark.slow) for m in MAPPINGS])
def test_interrupts_at_random_moments(archive, tmp_path, mapping):
    assert len(many(archive, tmp_path, mapping, 1)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_70_interrupts_at_random_moments(archive, tmp_path, mapping):
    assert many(archive, tmp_path, mapping, 70).count(130) > 70 / 3


READER = """
import os, signal, sys, threading, time
from xcorr.pes.reading.waveform_file import read_headers, read_waveforms

def fire():
    for _ in range(40):
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=fire, daemon=True).start()
caught, until = 0, time.time() + 1.5
while time.time() < until:
    try:
        read_headers(sys.argv[1])
        read_waveforms(sys.argv[1], 0, 2 * 10**18)
    except KeyboardInterrupt:
        caught += 1
print("caught", caught)
"""


def test_interrupts_while_obspy_reads_do_not_end_the_process(tmp_path):
    path = write(tmp_path / "sds", "AAA")
    command = [sys.executable, "-c", READER, str(path)]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == -signal.SIGINT or "KeyboardInterrupt" in done.stderr:
            continue  # between two readings, in the program's own code
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.split()[1]) > 5
