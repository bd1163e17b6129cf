"""From a command line to an experiment's settings."""

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
    """Calls `main` with the settings of `--variant`, changed by the other flags: one for each field.

    A wrong flag or value ends with a message and exit status 2, a data set or a file that is not there with status 1,
    Ctrl-C with status 130.
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
