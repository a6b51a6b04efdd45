"""Packs the work of a run for workers in other processes, and gathers the reports that they send back."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from xcorr.core import Observer, Plan, XcorrError
from xcorr.core.files import find_modules_in, loaded_files
from xcorr.core.interrupt import check, is_interrupt
from xcorr.core.message import Report, Stopped
from xcorr.core.observe import WorkerStatistics
from xcorr.mappings.engine import Outcome, merge_results, tell_progress

OWN, MAIN = "xcorr.", b"__main__"  # modules of the application; the module of a script, in pickles
UNGUARDED = 97  # exit code of a worker whose import of the script would start the run again
UNGUARDED_TEXT = (
    "this script starts its run again in every worker that imports it; put the call below "
    "`if __name__ == '__main__':` at the end of the script"
)


class UnguardedScript(XcorrError, SystemExit):
    """A script starts a run when a worker imports it. This is a SystemExit, so Python prints only its text."""

    def __init__(self, text: str = UNGUARDED_TEXT) -> None:
        SystemExit.__init__(self, text)


class Packed(NamedTuple):
    """The pickled work of a worker, and the values that the worker needs before it can unpickle the work."""

    arguments: list[str]
    path: list[str]
    script: str | None
    files: dict[str, str]
    folder: str
    levels: dict[str, int]
    work: bytes

    def send(self, connection: Connection) -> None:
        """Send this to a worker."""
        connection.send(self[:-1])
        connection.send_bytes(self.work)

    @classmethod
    def receive(cls, connection: Connection) -> Packed:
        """Return what the coordinator has sent."""
        return cls._make((*connection.recv(), connection.recv_bytes()))


def end_with(connection: Connection) -> None:
    """End this process when its coordinator, which sends nothing more, has closed the connection or has ended."""

    def watch() -> None:
        wait([connection])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_is_preparing = False  # True in a worker while it imports the script and unpickles its work


def refuse_within_import() -> None:
    """Raise UnguardedScript in a worker that is importing the coordinator's script, or end it with :data:`UNGUARDED`.

    Multiprocessing lets a worker import the script before the worker can send an error, so only the exit code remains.
    """
    if _is_preparing:
        raise UnguardedScript
    # private: set by multiprocessing while a process imports the script
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(UNGUARDED)


def pack_all(plan: Plan, observers: Sequence[Observer]) -> list[Packed]:
    """Return the work of every worker, with the script that runs as ``__main__`` here, if they need its classes.

    Raises what :func:`pack` raises.
    """
    parts = [pack(plan, observers, k) for k in range(plan.workers)]
    script = script_of_main() if needs_script(plan, parts) else None
    return [part._replace(script=script) for part in parts]


def needs_script(plan: Plan, parts: Sequence[Packed]) -> bool:
    """Return whether workers may need the script: the application's own elements need nothing of it."""
    own = all(type(node.element).__module__.startswith(OWN) for node in plan.nodes)
    return not own or any(MAIN in part.work for part in parts)


def pack(plan: Plan, observers: Sequence[Observer], worker: int) -> Packed:
    """Return the work of one worker: its part of the plan, and the path, files and log levels of this process.

    Raises XcorrError if an element cannot be sent to another process. The text names the element.
    """
    try:
        work = pickle.dumps((plan.for_worker(worker), tuple(observers)), 5)
    except BaseException:
        _name_unpicklable(plan)
        raise
    try:
        folder = os.getcwd()
    except FileNotFoundError:  # it has been removed
        folder = ""
    return Packed(sys.argv, search_path(), None, loaded_files(), folder, _levels(), work)


def search_path() -> list[str]:
    """Return the search path of modules, with relative folders as they are meant here: a worker may be elsewhere."""
    try:
        return [os.path.abspath(folder) for folder in sys.path]
    except FileNotFoundError:  # the current folder has been removed
        return list(sys.path)


def _name_unpicklable(plan: Plan) -> None:
    for node in plan.nodes:
        try:
            pickle.dumps(node.element)
        except Exception as error:
            raise XcorrError(
                f"element {node.name!r} cannot be sent to another process: {type(error).__name__}: {error}; "
                "define its class and functions at the top of a module, or use the threads or sequential mapping"
            ) from error


def unpack(packed: Packed, reporter: Reporter) -> tuple[Plan, tuple[Observer, ...]]:
    """Return plan and observers of this worker. From now on its log records go to the coordinator."""
    global _is_preparing
    sys.argv[:], sys.path[:] = packed.arguments, packed.path  # before unpickling, which imports the elements' modules
    if os.path.isdir(packed.folder):  # the folder may not exist on another host
        os.chdir(packed.folder)
    reporter.take_log(packed.levels)
    _is_preparing = True
    try:
        if packed.script is not None:
            from multiprocessing.spawn import _fixup_main_from_path  # type: ignore[attr-defined]

            # as multiprocessing does, so that classes of the script keep their module's name
            _fixup_main_from_path(packed.script)
        find_modules_in(packed.files)
        plan, observers = pickle.loads(packed.work)
    finally:
        _is_preparing = False
    return plan, observers


def script_of_main() -> str | None:
    """Return the script that runs as ``__main__``, whose classes workers need to find; None if it is no file."""
    main = sys.modules["__main__"]
    path = None if getattr(main, "__spec__", None) is not None else getattr(main, "__file__", None)
    return path if path is not None and os.path.isfile(path) else None  # a program may come from standard input


def _levels() -> dict[str, int]:
    """Return the levels that are set on loggers."""
    known = logging.root.manager.loggerDict.items()
    levels = {name: logger.level for name, logger in known if isinstance(logger, logging.Logger)}
    return {"": logging.root.level, **{name: level for name, level in levels.items() if level}}


class Reporter(logging.handlers.QueueHandler):
    """A worker's end of the connection to its coordinator. It also sends the log records of the worker."""

    def __init__(self, connection: Connection, worker: int) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.connection, self.worker = connection, worker
        self._sending = threading.Lock()  # elements may log from threads of their own

    def take_log(self, levels: dict[str, int]) -> None:
        """Set the levels of loggers, and send all log records to the coordinator instead of other handlers."""
        logging.root.handlers[:] = [self]
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return a record as text alone, which can be pickled."""
        plain = logging.makeLogRecord(vars(record))
        plain.msg, plain.args = record.getMessage(), None
        if record.exc_info:
            plain.exc_text = logging.Formatter().formatException(record.exc_info)
            plain.exc_info = None
        return plain

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record that was logged."""
        self.send(Report(self.worker, WorkerStatistics(self.worker, []), said=record))

    def send(self, report: Report) -> None:
        """Send a report. Results that cannot be pickled are sent as a failure, such a failure as its text."""
        try:
            content = pickle.dumps(report, 5)
        except BaseException as error:  # items may raise anything
            if report.failure is not None:
                why = f"{type(report.failure).__name__}: {text_of(report.failure)}"
            elif report.results is not None:
                cause = f"{type(error).__name__}: {text_of(error)}"
                why = f"the results of worker {report.worker} cannot be sent back: {cause}"
            else:
                raise
            report = self._failed(XcorrError(why))
            content = pickle.dumps(report, 5)
        if report.results is not None or report.failure is not None:
            for stream in filter(None, (sys.stdout, sys.stderr)):  # this process may be ended any time from now on
                with contextlib.suppress(Exception):  # an element may have closed or replaced it
                    stream.flush()
        with self._sending:
            self._deliver(report, content)

    def _deliver(self, report: Report, content: bytes) -> None:
        """Send a report that has been pickled."""
        self.connection.send_bytes(content)

    def tell(self, statistics: WorkerStatistics) -> None:
        """Send the latest numbers."""
        self.send(Report(self.worker, statistics))

    def _failed(self, failure: XcorrError) -> Report:
        return Report(self.worker, WorkerStatistics(self.worker, []), failure=failure)

    @contextlib.contextmanager
    def failures_told(self, what: str) -> Iterator[None]:
        """Report any error in the block to the coordinator, and continue after the block."""
        try:
            yield
            return
        except XcorrError as error:
            failure: XcorrError = error
        except BaseException as error:
            failure = XcorrError(f"{what} {self.worker} could not run: {type(error).__name__}: {text_of(error)}")
        self.send(self._failed(failure))

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """End this process at once if not even a failure can be told: the coordinator sees that it has gone."""
        try:
            yield
        except BaseException as error:
            text = f"worker {self.worker} cannot tell the coordinator of a failure ({type(error).__name__}), here:\n"
            os.write(2, text.encode())
            faulthandler.dump_traceback(file=2, all_threads=False)
            os._exit(1)


def text_of(error: BaseException) -> str:
    """Return the text of an error, whatever making it raises."""
    try:
        return str(error)
    except BaseException as another:
        return f"<its text cannot be made: {type(another).__name__}>"


def opened(content: bytes, worker: int) -> Report:
    """Return the report that a worker has sent. Raises XcorrError, naming the worker, if it cannot be unpickled."""
    try:
        report: Report = pickle.loads(content)
    except BaseException as error:
        if is_interrupt(error):
            raise
        why = f"{type(error).__name__}: {text_of(error)}"
        raise XcorrError(f"the results of worker {worker} cannot be read here: {why}") from None
    return report


class Gathering:
    """The latest statistics and the results that a coordinator has received from its workers."""

    def __init__(self, workers: Sequence[int], observers: Sequence[Observer]) -> None:
        self.observers = observers
        self.latest = {k: WorkerStatistics(k, []) for k in workers}
        self.results: dict[int, dict[str, dict[str, list[Any]]]] = {}

    @property
    def finished(self) -> bool:
        """Whether all workers have finished."""
        return len(self.results) == len(self.latest)

    def take(self, report: Report) -> None:
        """Take a report: log a record, store numbers and results, or raise the failure of the worker."""
        if report.said is not None:
            logger = logging.getLogger(report.said.name)
            if logger.isEnabledFor(report.said.levelno):
                logger.handle(report.said)
            return
        if report.failure is not None:
            # a stopped worker is not the cause; the one that failed reports too
            if not isinstance(report.failure, Stopped):
                raise report.failure
            return
        self.latest[report.worker] = report.statistics
        if report.results is not None:
            self.results[report.worker] = report.results

    def show(self) -> None:
        """Show the observers the progress of the run. Raises KeyboardInterrupt after Ctrl-C."""
        check()
        if not self.finished:
            tell_progress(self.observers, [self.latest[k] for k in sorted(self.latest)])

    def outcome(self) -> Outcome:
        """Show the observers that the run has finished, and return its outcome."""
        workers = [self.latest[k] for k in sorted(self.latest)]
        tell_progress(self.observers, workers, finished=True)
        return Outcome(merge_results([self.results[k] for k in sorted(self.results)]), workers)
