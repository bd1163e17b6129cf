"""Signals that end a run: SIGTERM, which a cluster sends before it takes the machine away, and Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax


class Signals(NamedTuple):
    """Which signal has asked a run to stop."""

    asked: Callable[[int], int | None]  # called with the number of updates: the signal that asks to stop, or None
    at_any_step: bool  # whether `asked` may be called at any step; else every process must call it at the same steps


@contextlib.contextmanager
def signals_noted(saves: bool) -> Iterator[Signals]:
    """In this context SIGINT, and SIGTERM if the run `saves` itself, are noted and do not end the program at once.

    A second Ctrl-C does. With several processes JAX's notifier takes SIGTERM, so that all processes get the same
    answer, and SIGINT is not noted.
    """
    if jax.process_count() > 1:
        yield Signals(_told_by_jax() if saves else lambda step: None, at_any_step=False)
        return
    if threading.current_thread() is not threading.main_thread():
        yield Signals(lambda step: None, at_any_step=True)
        return
    wanted = (signal.SIGINT, signal.SIGTERM) if saves else (signal.SIGINT,)
    handlers = {number: signal.getsignal(number) for number in wanted}
    # A handler of None was not installed by Python and could not be restored. An ignored signal stays ignored.
    before: dict[int, Any] = {n: h for n, h in handlers.items() if h is not None and h != signal.SIG_IGN}
    came: list[int] = []
    told: list[int] = []

    def note(number: int, frame: object) -> None:
        del frame
        came.append(number)
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    def asked(step: int) -> int | None:
        del step
        told[:] = came[:1]
        return came[0] if came else None

    try:
        for number in before:
            signal.signal(number, note)
        yield Signals(asked, at_any_step=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came and not told:  # the signal came too late for the run, so it is raised again for the caller
            signal.raise_signal(came[0])


def _told_by_jax() -> Callable[[int], int | None]:
    from jax.experimental import multihost_utils

    known: dict[int, bool] = {}  # the notifier may be called only once for each step

    def asked(step: int) -> int | None:
        if step not in known:
            known.clear()
            known[step] = multihost_utils.reached_preemption_sync_point(step)
        return signal.SIGTERM if known[step] else None

    return asked
