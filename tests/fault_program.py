"""Runs a workflow in which something goes wrong (MAPPING FAULT); the moment goes to ``fault.time``."""

import os
import sys
import time
from pathlib import Path

import elements as e
from elements import chain

from xcorr.core import ConsumerPE, IterativePE, ProducerPE
from xcorr.core.testing import ListSink, ListSource, Slow
from xcorr.mappings import run


def note():
    Path("fault.time").write_text(str(time.time()))


class Noting(IterativePE):
    """Fails in a phase, having noted the time."""

    def __init__(self, phase):
        super().__init__()
        self.phase = phase

    def fail(self, phase):
        if self.phase == phase:
            note()
            raise ValueError(f"told to fail in {phase}")

    def preprocess(self):
        self.fail("preprocess")

    def _process(self, item):
        if item == 50:
            self.fail("process")
        return item

    def postprocess(self):
        self.fail("postprocess")


class FailingSource(ProducerPE):
    def _process(self):
        for i in range(50):
            self.write("output", i)
        note()
        raise ValueError("told to fail in a source")


class FailingSink(ConsumerPE):
    def _process(self, item):
        if item == 50:
            note()
            raise ValueError("told to fail in a sink")


class NotingKill(e.Kill):
    stateless = True

    def _process(self, item):
        if item == self.at:
            note()
        return super()._process(item)


class NotingUnpicklable(e.Unpicklable):
    worker = 0
    stateless = False

    def _process(self, item):
        note()
        return super()._process(item)


def workflow(fault):
    numbers, sink = ListSource(range(100)), ListSink()
    if fault in ("preprocess", "process", "postprocess"):
        return chain(numbers, Noting(fault), sink)
    if fault == "source":
        return chain(FailingSource(), sink)
    if fault == "sink":
        return chain(numbers, FailingSink())
    if fault == "kill-worker":
        return chain(numbers, NotingKill(50), sink)
    if fault == "unpicklable":
        sink.worker = 1
        return chain(numbers, NotingUnpicklable(), sink)
    if fault == "import":
        note()
        return chain(numbers, e.NotHere(), sink)
    if fault == "long":
        return chain(ListSource(range(2000)), Slow(0.05), sink)
    raise SystemExit(f"no fault {fault}")


if __name__ == "__main__":
    print("ready", os.getpid(), flush=True)
    run(workflow(sys.argv[2]), mapping=sys.argv[1], workers=2)
    print("finished", flush=True)
