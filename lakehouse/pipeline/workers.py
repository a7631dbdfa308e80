"""Workers: cells are computed beside each other and ahead of whoever stores them, and come out in order.

Storing a cell and logging its event stay with one thread. What a cell becomes does not depend on how many
workers there are: each is computed by itself, from stored cells alone.
"""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

_MOST = 8
A_CELL = 384 << 20
"""Bytes that a month of minutes takes at most while it is refined, inputs and all."""

_PATIENCE = 5.0  # seconds for a producer to put away what it has open, once nobody wants more
_AHEAD = 2  # items that a producer is ahead of its consumer


def worker_count() -> int:
    """Cells to compute at once: one per core, eight at most, and no more than fit into the memory that is
    free.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not told by this system
        free = _MOST * A_CELL
    return max(1, min(cores, _MOST, free // A_CELL))


def in_order(
    items: Iterable[Item], make: Callable[[Item], Made], workers: int
) -> Iterator[tuple[Item, Made]]:
    """Make something of each item, several at once, and yield them in the order of the items.

    Args:
        items: The items.
        make: Called by several threads; raises nothing that is not to end the whole.
        workers: How many at once; with one, the caller's thread makes each when it is asked for.
    """
    if workers == 1:
        yield from ((item, make(item)) for item in items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lakehouse-cell")
    under_way: deque[tuple[Item, Future[Made]]] = deque()
    try:
        for item in items:
            under_way.append((item, pool.submit(make, item)))
            if len(under_way) > workers:
                first, future = under_way.popleft()
                yield first, future.result()
        while under_way:
            first, future = under_way.popleft()
            yield first, future.result()
    finally:  # where this is given up, garbage collection may end it, in a worker too: none must wait for itself
        pool.shutdown(wait=False, cancel_futures=True)


def ahead(items: Iterator[Item], workers: int) -> Iterator[Item]:
    """The items of an iterator that another thread goes through, a few of them ahead.

    Args:
        items: An iterator; what it raises is raised here, in its turn.
        workers: With one, the caller's thread goes through it itself.
    """
    if workers == 1:
        yield from items
        return
    line: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(_AHEAD)
    is_over = threading.Event()

    def put(is_item: bool, what: Item | BaseException | None) -> bool:
        while not is_over.is_set():
            try:
                line.put((is_item, what), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(True, item):
                    return
            put(False, None)
        except BaseException as error:  # raised by whoever consumes
            put(False, error)
        finally:
            getattr(items, "close", lambda: None)()

    thread = threading.Thread(target=produce, name="lakehouse-ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_item, what = line.get()
            if is_item:
                yield what  # type: ignore[misc]
            elif isinstance(what, BaseException):
                raise what
            else:
                return
    finally:
        is_over.set()
        if threading.current_thread() is not thread:  # as where garbage collection ends this in there
            thread.join(timeout=_PATIENCE)
