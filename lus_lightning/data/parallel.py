"""One function over many files, in processes, with progress and time left."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cv2

from lus_lightning.console import Progress, track
from lus_lightning.errors import UserError


def cpu_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(function: Callable[[Any], Any], items: Sequence[Any], workers: int, label: str) -> list[Any]:
    """Results of a picklable function, in the order of `items`; a `UserError` stands in the place of the result that it prevented.

    Raises:
        UserError: a worker process died.
    """
    if min(workers, len(items)) <= 1:
        return [result for item in track(items, label, len(items)) for result in _attempt(function, [item])]
    with Progress(label, len(items)) as progress:
        results: list[Any] = [None] * len(items)
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context(), initializer=cv2.setNumThreads, initargs=(0,))
        try:
            # In chunks, as a call costs more than an item that is remembered from before; small ones, so that all processes end together.
            step = max(1, min(16, len(items) // (8 * workers)))
            chunks = {pool.submit(_attempt, function, items[i : i + step]): i for i in range(0, len(items), step)}
            for future in as_completed(chunks):
                done = future.result()
                results[chunks[future] : chunks[future] + step] = done
                progress.advance(len(done))
        except BrokenProcessPool:
            raise UserError(
                f"a process died during '{label}', perhaps for want of memory; use fewer workers, or find the clip that kills it"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return results


def _attempt(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    results: list[Any] = []
    for item in items:
        try:
            results.append(function(item))
        except UserError as error:
            results.append(error)
    return results
