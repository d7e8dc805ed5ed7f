"""SIGINT (Ctrl-C) and SIGTERM (SLURM, Docker, a shutdown) end a command with a sentence and with exit code 130 or 143."""

import multiprocessing
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_SAME_SECONDS: Final = 3.0


class Stopped(SystemExit):
    """Ends the program as the signal asks: its exit code is 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        self.name = signal.Signals(number).name
        super().__init__(128 + number)


class Interrupts:
    """What this process was asked to stop by. A training defers the stop until it has saved; a second signal stops it at once.

    A terminal sends Ctrl-C to the whole process group, and a parent passes its signal on: signals within three seconds are one.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.pending = 0
        self._first = 0.0

    def install(self) -> None:
        """Handle both signals; outside the main thread Python allows no handler."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._received)

    def _received(self, number: int, frame: Any) -> None:
        if self._first and time.monotonic() - self._first < _SAME_SECONDS:
            return
        again, self._first = bool(self._first), time.monotonic()
        if self.deferred and not again:
            self.pending = number
            return
        raise Stopped(number)


interrupts: Final = Interrupts()


@contextmanager
def handled() -> Iterator[None]:
    """Signals end what is done inside; afterwards they mean what they meant before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    interrupts.__init__()  # type: ignore[misc]  # a command knows nothing of an earlier one's signals
    interrupts.install()
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
            _end_loaders()


def _end_loaders() -> None:
    """Kill the loaders that an error has left: they ignore the SIGTERM of Python's exit, which would then wait for them for ever."""
    loaders = [child for child in multiprocessing.active_children() if child.daemon]
    if not loaders:
        return
    told = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch takes a killed loader for an error
    for loader in loaders:
        loader.kill()
        loader.join()
    signal.signal(signal.SIGCHLD, told or signal.SIG_DFL)


def ignore_signals(worker: int = 0) -> None:
    """For a process that loads data: a signal to the whole process group is the training's to answer, and it ends its loaders itself."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def run_child(words: Sequence[str]) -> int:
    """Exit code of a command that is run as a process of its own; a signal is passed on to it, and it may take its time to save."""
    process = subprocess.Popen(words)
    try:
        return process.wait()
    except Stopped as stopped:
        if process.poll() is None:
            process.send_signal(int(stopped.code) - 128)  # type: ignore[arg-type]
        process.wait()
        raise
