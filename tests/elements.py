"""Elements for tests of mappings: at module level, so that other processes can import them."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import time

import numpy as np

from xcorr.core import ConsumerPE, GenericPE, IterativePE, MultiKey, ProducerPE, WorkflowGraph


def chain(*elements):
    """The graph in which each element feeds the next."""
    graph = WorkflowGraph()
    for a, b in itertools.pairwise(elements):
        graph.connect(a, "output", b, "input")
    return graph


class Pairs(ProducerPE):
    """Writes ``count`` items (key, value)."""

    def __init__(self, count, seed):
        super().__init__()
        self.count = count
        self.seed = seed

    def _process(self):
        for i in range(self.count):
            self.write("output", ((i * 7 + self.seed) % 11, i * 13 + self.seed))


class Affine(IterativePE):
    """One item in, one out."""

    stateless = True

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def _process(self, item):
        key, value = item
        return (key * self.factor + 1) % 13, (value * self.factor + 3) % 100_003


class Explode(IterativePE):
    """Writes many items for each one, inside one ``process``."""

    stateless = True

    def __init__(self, copies):
        super().__init__()
        self.copies = copies

    def _process(self, item):
        key, value = item
        for i in range(self.copies):
            self.write("output", ((key + i) % 17, value + i))


class Drop(IterativePE):
    """Passes on some items and drops the others."""

    stateless = True

    def __init__(self, modulus):
        super().__init__()
        self.modulus = modulus

    def _process(self, item):
        return item if item[1] % self.modulus else None


class Totals(GenericPE):
    """Counts and sums what this instance receives; writes at the end. Has one or two inputs."""

    def __init__(self, numprocesses, grouping, inputs=1):
        super().__init__(numprocesses)
        for i in range(inputs):
            self._add_input(f"input{i}" if i else "input", grouping=grouping)
        self._add_output("output")

    def preprocess(self):
        self.count = self.total = 0

    def process(self, inputs):
        ((_, item),) = inputs.items()
        self.count += 1
        self.total += item[0] * 1009 + item[1]

    def postprocess(self):
        self.write("output", (self.count, self.total))


class ByKey(GenericPE):
    """Sums by key; one instance per worker, as outputs depend on the key alone."""

    keyed = True

    def __init__(self):
        super().__init__()
        self._add_input("input", grouping=[0])
        self._add_output("output")

    def preprocess(self):
        self.sums = {}

    def process(self, inputs):
        key, value = inputs["input"]
        self.sums[key] = self.sums.get(key, 0) + value

    def postprocess(self):
        for key in sorted(self.sums):
            self.write("output", (key, self.sums[key]))


class WithKeys(IterativePE):
    """Gives an item several keys."""

    stateless = True

    def _process(self, item):
        return {"keys": (item[0] % 5, item[1] % 7), "item": item}


class ByKeys(ByKey):
    """Sums by each of an item's keys that this instance owns."""

    def __init__(self):
        super().__init__()
        self._add_input("input", grouping=MultiKey("keys"))

    def process(self, inputs):
        data = inputs["input"]
        for key in {k for k in data["keys"] if self.owns(k)}:
            self.sums[key] = self.sums.get(key, 0) + data["item"][1]


class Kill(IterativePE):
    """Kills the process it runs in at an item."""

    stateless = True

    def __init__(self, at):
        super().__init__()
        self.at = at

    def _process(self, item):
        if item == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return item


class Unpicklable(IterativePE):
    """Turns an item into one that cannot be sent."""

    stateless = True

    def _process(self, item):
        return lambda: item


class NotHere(IterativePE):
    """Cannot be loaded in another process."""

    stateless = True

    def __init__(self):
        super().__init__()
        self.module = MissingModule()

    def _process(self, item):
        return item


class MissingModule:
    def __reduce__(self):
        return _import, ("no_such_module_in_the_worker",)

    def __deepcopy__(self, memo):
        return self


def _import(name):
    return __import__(name)


class Arrays(ProducerPE):
    """Writes arrays of a size, numbered in their first value."""

    def __init__(self, count, bytes_each):
        super().__init__()
        self.count = count
        self.bytes_each = bytes_each

    def _process(self):
        for i in range(self.count):
            array = np.zeros(self.bytes_each // 8)
            array[0] = i
            self.write("output", array)


class SlowSum(ConsumerPE):
    """Takes its time over each array, and remembers the last."""

    worker = 1

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self._add_output("output")
        self.sum = 0.0

    def _process(self, array):
        time.sleep(self.seconds)
        self.sum += float(array[0])

    def postprocess(self):
        self.write("output", self.sum)


class Here(GenericPE):
    """Writes, for each key, the instance it reaches."""

    def __init__(self, numprocesses):
        super().__init__(numprocesses)
        self._add_input("input", grouping=[0])
        self._add_output("output")

    def process(self, inputs):
        return {"output": (inputs["input"][0], self.instance)}


class Acquainted(GenericPE):
    """Writes, at its end, which instances share ``in_common`` with it."""

    def __init__(self, numprocesses):
        super().__init__(numprocesses)
        self._add_input("input", grouping=[0])
        self._add_output("output")

    def preprocess(self):
        self.in_common.setdefault("instances", []).append(self.instance)

    def process(self, inputs):
        time.sleep(0.05)

    def postprocess(self):
        self.write("output", sorted(self.in_common["instances"]))


class Countdown(ProducerPE):
    """Writes numbers, and says how many are left."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def _process(self):
        for k in range(self.count):
            self.items_left = self.count - k
            self.write("output", k)


class Stamped(IterativePE):
    """Takes its time over each item; says which instance it was, and when."""

    stateless = True

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def _process(self, item):
        time.sleep(self.seconds)
        return self.instance, time.monotonic()


class Sized(GenericPE):
    """Writes the length of what arrives, on another worker than the source's."""

    worker = 1

    def __init__(self):
        super().__init__()
        self._add_input("input")
        self._add_output("output")

    def process(self, inputs):
        return {"output": len(inputs["input"])}


class Counter(IterativePE):
    """Counts the items it has seen, and says nothing of being stateless."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def _process(self, item):
        self.seen += 1
        return self.seen


class Talking(IterativePE):
    """Logs, in several ways."""

    worker = 1

    def _process(self, item):
        self.log(f"got {item}")
        logging.getLogger("elements.quiet").warning("warning %s", item)
        logging.getLogger("elements.loud").debug("debug %s", item)
        try:
            raise KeyError(item)
        except KeyError as error:
            logging.getLogger("elements").warning("warning %s: %s", item, type(error).__name__, exc_info=True)


class StartsProgram(IterativePE):
    """Starts a program that lasts, and waits for it."""

    def __init__(self, *command):
        super().__init__()
        self.command = command

    def _process(self, item):
        import subprocess

        subprocess.run(self.command, check=True)
        return item
