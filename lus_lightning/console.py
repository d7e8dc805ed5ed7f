"""What the console shows, in one style for all commands; what libraries say goes to the run folder's logs/, or with --verbose here too."""

import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

EVERY_SECONDS: Final = 30.0
"""Between two lines of progress where there is no terminal."""
_LIBRARIES: Final = ("pytorch_lightning", "lightning_fabric", "torch", "py.warnings")
_Item = TypeVar("_Item")


def verbose() -> bool:
    """Whether everything is shown (`--verbose`); processes started from here know it from the environment."""
    return os.environ.get("LUS_VERBOSE") == "1"


def without_verbose(words: list[str]) -> list[str]:
    """The words of a command line without `--verbose`, which is remembered."""
    if "--verbose" not in words:
        return words
    os.environ["LUS_VERBOSE"] = "1"
    return [word for word in words if word != "--verbose"]


def first_process() -> bool:
    """Whether this process speaks for all: of several that train together, the first."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0


def say(text: str) -> None:
    """One line for the user, in its place among the lines of the processes started from here."""
    if first_process():
        print(text, flush=True)


class Progress:
    """How much is done and how long is left, on stderr: a bar on a terminal, else a line every `EVERY_SECONDS`.

    Args:
        label: what is being done.
        total: how many things; infinity if nobody knows.
        done: how many are done already.
    """

    _told: ClassVar[float] = time.monotonic()  # of all: many short tasks one after the other are one long one to who waits
    _live: ClassVar[bool] = False

    def __init__(self, label: str, total: float, done: int = 0) -> None:
        self.label, self.total, self.done = label, total, done
        self._first, self._started = done, time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        if first_process() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not Progress._live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(self.label, total=self.total if math.isfinite(self.total) else None, completed=self.done)
            self._bar.start()
            Progress._live = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar, Progress._live = None, False

    def advance(self, count: int = 1, note: Callable[[], str] = str) -> None:
        """Some more are done; `note` is asked for what stands beside, such as a loss, when it is shown."""
        self.done += count
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)
        if not first_process() or time.monotonic() - Progress._told < (EVERY_SECONDS if self._bar is None else 1):
            return
        Progress._told, told = time.monotonic(), note()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=f"{self.label}{told and f' ({told})'}")
        else:
            print(f"{self.label}: {self._counted()}{told and f', {told}'}", file=sys.stderr, flush=True)

    def _counted(self) -> str:
        if not math.isfinite(self.total):
            return f"{self.done}"
        counted = f"{self.done} of {self.total:g}"
        if self.done == self._first:
            return counted
        each = (time.monotonic() - self._started) / (self.done - self._first)
        return f"{counted}, {span(each * (self.total - self.done))} left"


def track(items: Iterable[_Item], label: str, total: int) -> Iterator[_Item]:
    """The items, with progress."""
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()


def span(seconds: float) -> str:
    """A time in words: 40 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _Held(MemoryHandler):
    """Keeps records until it is told which file they belong to."""

    def __init__(self) -> None:
        super().__init__(10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)

    def write_to(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        target = logging.FileHandler(file, encoding="utf-8")
        target.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.setTarget(target)
        self.capacity = 1
        self.flush()


_held: _Held | None = None
_failed: Path | None = None


def log_to(folder: Path, command: str) -> None:
    """Write what is kept from the console to `folder`/COMMAND.log; further processes of a training have a file each."""
    global _failed
    _failed = folder / f"{command}.failed"
    if first_process():
        _failed.unlink(missing_ok=True)
    if _held is not None:
        _held.write_to(folder / (f"{command}.log" if first_process() else f"{command}-{os.environ['LOCAL_RANK']}.log"))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the console what Lightning, torch and W&B log and what Python warns of, unless --verbose."""
    global _held
    if verbose():
        yield
        return
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_CONSOLE", "off")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    showed, _held = warnings.showwarning, _Held()
    for logger in loggers:
        logger.handlers, logger.propagate = [], True
    logging.getLogger().addHandler(_held)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        warnings.showwarning = showed
        logging.getLogger().removeHandler(_held)
        if _held.target:
            _held.target.close()
        _held.close()
        _held = None
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate


def told_by_another(code: int) -> int:
    """Exit code of the process that ended by an error before this one, of those that train together, or 0: then this one tells why.

    What the others meet is only "connection closed by peer"; it goes to their logs.
    """
    if _failed is None or "LOCAL_RANK" not in os.environ:
        return 0
    try:
        with _failed.open("x") as file:
            file.write(str(code))
    except FileExistsError:
        logging.getLogger("lus_lightning").exception("another process has ended by an error")
        return int(_failed.read_text() or 1)
    return 0


@contextmanager
def pipe() -> Iterator[None]:
    """Who reads our output may stop reading, as `head` does: the command ends as if by SIGPIPE, without a traceback."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python flushes again at its end
        raise SystemExit(141) from None
