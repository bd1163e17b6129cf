"""Several processes that train one model, on one machine or many."""

import contextlib
import os
from collections.abc import Iterator

import jax

from jaxdl.arguments import check_integer, require


class ProcessLostError(RuntimeError):
    """Another process of this training ended, or cannot be reached."""


def join_processes(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    timeout_seconds: int = 30,
) -> None:
    """Makes this process one of several that train together; call it before anything else that uses JAX.

    From then on `jax.devices()` are the devices of all processes, and `make_step` and `fit` use them. Every process
    runs the same script and makes the same calls. Under SLURM, Kubernetes, Open MPI and on Cloud TPU JAX finds the
    arguments by itself. If a process dies, the others end with a `ProcessLostError` or with JAX's own message, after
    `timeout_seconds` at the latest.

    Args:
      coordinator: address of process 0, "host:port"; by default $JAX_COORDINATOR_ADDRESS.
      processes: number of processes; by default $JAX_NUM_PROCESSES.
      process: number of this process, from 0; by default $JAX_PROCESS_ID.
      timeout_seconds: after how many seconds without a heartbeat a process counts as dead.

    Raises:
      ValueError: some of `coordinator`, `processes` and `process` are given, but not all.
      RuntimeError: JAX is in use already, or the other processes do not join.
    """
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    processes = _from_environment("JAX_NUM_PROCESSES") if processes is None else processes
    process = _from_environment("JAX_PROCESS_ID") if process is None else process
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    require(
        len(missing) in (0, 3),
        f"join_processes: {', '.join(missing)} is missing; pass all three, or none under SLURM, Kubernetes or Open MPI",
    )
    if not missing:
        count = check_integer("join_processes", "processes", processes, at_least=1)
        number = check_integer("join_processes", "process", process, at_least=0)
        require(number < count, f"join_processes: process={process} must be below processes={processes}; count from 0")
    jax.distributed.initialize(
        coordinator,
        processes,
        process,
        heartbeat_timeout_seconds=timeout_seconds,
        shutdown_timeout_seconds=timeout_seconds,
    )


@contextlib.contextmanager
def lost_processes_named() -> Iterator[None]:
    """Turns JAX's exception for the death of another process into a `ProcessLostError`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        first = (str(error).splitlines() or [""])[0][:300]
        raise ProcessLostError(
            f"process {jax.process_index()} of {jax.process_count()} cannot reach another one, which has probably "
            "died; look at the others' output, and start all of them again (with checkpoint_dir they go on). "
            f"JAX says: {first}"
        ) from error


def _from_environment(name: str) -> int | None:
    value = os.environ.get(name)
    require(value is None or value.isdigit(), f"join_processes: ${name} must be a number, got {value!r}")
    return None if value is None else int(value)
