"""The reference mapping: one worker in this thread. Items go through the graph one by one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from xcorr.core import Observer, Plan
from xcorr.core.interrupt import held
from xcorr.core.loop import Worker
from xcorr.mappings.engine import Costs, Engine, Outcome, tell_progress

_log = logging.getLogger("xcorr.mappings")


class SequentialMapping(Engine):
    """Runs everything in the calling thread."""

    costs = Costs(share=1.0, imports=1, process_mb=85, between_mb=0)
    one_process = True
    most_workers = 1

    def choose_workers(self, asked: int | None) -> int:
        """Return 1. Log a warning if another number is asked for."""
        if asked not in (None, 1):
            _log.warning("the sequential mapping has one worker; -n %s is ignored", asked)
        return 1

    def execute(self, plan: Plan, observers: Sequence[Observer] = ()) -> Outcome:
        """Run the plan to its end. Raises ElementError when an element fails, KeyboardInterrupt on Ctrl-C."""
        worker = Worker(plan, observers=observers, tell=lambda numbers: tell_progress(observers, [numbers]))
        with held(tell=lambda: worker.give_up(KeyboardInterrupt())):
            worker.run()
        tell_progress(observers, [worker.statistics()], finished=True)
        return Outcome(worker.results, [worker.statistics()])
