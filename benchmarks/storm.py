"""What Apache Storm costs on this host: start-up, items and bytes per second, memory of the whole cluster.

Needs Java and Maven. One run prints all; the memory is the sum of proportional set sizes (PSS) of all processes of
the cluster, its Python components included, at its peak.
"""

from __future__ import annotations

import argparse
import json
import time

import engine
from memory import peak_mb, pss_mb

from xcorr.core import GenericPE, WorkflowGraph
from xcorr.mappings import run
from xcorr.mappings.storm_cluster import Cluster, _in_session


def graph(source: GenericPE) -> WorkflowGraph:
    made = WorkflowGraph()
    made.connect(source, "output", engine.Sink(), "input")
    return made


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    begin = time.perf_counter()
    cluster = Cluster()
    try:
        print(f"cluster up after {time.perf_counter() - begin:.1f} s")
        sessions = json.loads((cluster.folder / "cluster.json").read_text())["sessions"]

        def memory() -> float:
            return pss_mb(p for s in sessions for p in _in_session(s))

        print(f"idle: {memory():.0f} MB")
        with peak_mb(memory) as peak:
            measure(cluster)
        print(f"peak memory of the whole cluster: {peak[0]:.0f} MB")
    finally:
        cluster.stop()


def measure(cluster: Cluster) -> None:
    for name, count, size in (
        ("one item", 1, 0),
        ("50,000 small items", 50_000, 0),
        ("500 arrays", 500, 2_000_000),
    ):
        source = engine.Arrays(count, size) if size else engine.Count(count)
        begin = time.perf_counter()
        outcome = run(graph(source), mapping="storm", workers=2, options={"nimbus": cluster.nimbus})
        whole, inside = time.perf_counter() - begin, max(w.seconds for w in outcome.workers)
        print(
            f"{name}: {whole:.1f} s, of which {whole - inside:.1f} s to start and end the topology; "
            f"{count / inside:.0f} items/s, {count * size / inside / 1e6:.0f} MB/s from one task to another"
        )


if __name__ == "__main__":
    main()
