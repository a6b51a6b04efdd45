"""Stable hashes and the five groupings."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from xcorr.core import GraphError, GroupBy, MultiKey, stable_hash
from xcorr.core.grouping import parse_grouping

PROGRAM = """
import dataclasses
from xcorr.core import stable_hash
@dataclasses.dataclass(frozen=True)
class Key:
    a: str
    b: tuple
keys = ("word", ("CI", "WBM"), b"x", None, 1.5, 7, {"a": 1, "b": 2}, frozenset("abc"), Key("x", (1, "y")))
print([stable_hash(k) for k in keys])
"""


def test_hash_is_the_same_for_every_hash_seed():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={"PYTHONHASHSEED": s}, check=True, capture_output=True, text=True
        ).stdout
        for s in ("0", "1", "random")
    }
    assert len(outputs) == 1


def test_hash_is_frozen():
    assert stable_hash("word") == 16802923186624802082
    assert stable_hash(("CI", "WBM")) == 5419462443310382213


def test_equal_keys_hash_alike_and_integers_to_themselves():
    assert stable_hash(5) == stable_hash(5.0) == stable_hash(np.int64(5)) == stable_hash(np.float32(5)) == 5
    assert stable_hash(True) == 1
    assert stable_hash((1, "a")) == stable_hash([1.0, "a"])
    assert stable_hash({"a": 1, "b": 2}) == stable_hash({"b": 2, "a": 1})
    assert stable_hash(-3) >= 0


def test_hash_sees_differences():
    arrays = [np.zeros(3), np.zeros(4), np.zeros(3, np.float32), np.ones(3)]
    values = ["", b"", None, 0, 0.5, (), (()), ("ab", "c"), ("a", "bc"), *arrays, int, len]
    distinct = {stable_hash(v) for v in values}
    assert len(distinct) == len(values) - 1  # () and (()) are the same object


def test_strings_spread_over_instances():
    counts = np.bincount([stable_hash(f"ST{i}") % 4 for i in range(4000)])
    assert counts.min() > 900


@dataclasses.dataclass
class Item:
    name: str
    keys: tuple


def test_keys_come_from_positions_mappings_and_attributes():
    assert GroupBy((0,)).key(["a", 1]) == "a"
    assert GroupBy((0, 1)).key(["a", 1]) == ("a", 1)
    assert GroupBy(("name",)).key({"name": "x"}) == "x"
    assert GroupBy(("name",)).key(Item("x", ())) == "x"
    assert list(MultiKey("keys").keys(Item("x", (1, 2)))) == [1, 2]


@pytest.mark.parametrize("declared", ["fields", 3, [], [1.5], object()])
def test_unknown_grouping_is_refused(declared):
    with pytest.raises(GraphError, match="input 'a'.*is not known; use"):
        parse_grouping(declared, "input 'a'")
