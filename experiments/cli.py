"""Turns a command line into an experiment's settings."""

import argparse
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import tyro

from jaxdl import data

Settings = TypeVar("Settings")


def seed_keys(seeds: int) -> jax.Array:
    """The keys of the seeds 0, 1, ...: `jax.random.key(seed)` for each."""
    return jax.vmap(jax.random.key)(jnp.arange(seeds))


def run(
    main: Callable[[Settings], None], variants: Mapping[str, Settings], doc: str, arguments: Sequence[str] | None = None
) -> None:
    """Calls `main` with the settings of `--variant`, changed by the other flags, of which there is one for each field.

    The exit status is 2 for a wrong flag or value, 1 for a missing data set or file (both with a message), and 130 for
    Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--variant", choices=variants, default="default")
    chosen, rest = chooser.parse_known_args(arguments)
    start = variants[chosen.variant]
    doc += f"\n\nSettings shown are those of --variant {chosen.variant}; there are {', '.join(variants)}."
    program = f"python -m experiments.{Path(inspect.getfile(main)).stem}"
    settings = tyro.cli(type(start), prog=program, default=start, args=rest, description=doc)
    try:
        main(settings)
    except (data.DatasetNotFoundError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)
