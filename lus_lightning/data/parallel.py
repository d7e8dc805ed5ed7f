"""One function over many files, in processes, with progress and time left."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cv2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lus_lightning.errors import UserError


def cpu_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[Any], Any], items: Sequence[Any], workers: int, label: str) -> list[Any]:
    """Results of a picklable function, in the order of `items`; a `UserError` stands in the place of the result that it prevented.

    Raises:
        UserError: a worker process died.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=len(items))
        if min(workers, len(items)) <= 1:
            return [_advanced(_attempt(function, item), progress, task) for item in items]
        results: list[Any] = [None] * len(items)
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context(), initializer=cv2.setNumThreads, initargs=(0,))
        try:
            places = {pool.submit(_attempt, function, item): place for place, item in enumerate(items)}
            for future in as_completed(places):
                results[places[future]] = _advanced(future.result(), progress, task)
        except BrokenProcessPool:
            raise UserError(
                f"a process died during '{label}', perhaps for want of memory; use fewer workers, or find the clip that kills it"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return results


def _attempt(function: Callable[[Any], Any], item: Any) -> Any:
    try:
        return function(item)
    except UserError as error:
        return error


def _advanced(result: Any, progress: Progress, task: Any) -> Any:
    progress.advance(task)
    return result
