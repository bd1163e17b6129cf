"""How long `import jaxdl` takes, against the import of Flax and optax, which it needs.

python -m benchmarks.import_time
"""

import subprocess
import sys

from benchmarks.timing import alternate, publish, summarise

PEER = "import flax.linen, optax"
ROUNDS = 15


def importing(statement: str):
    """A function that returns the seconds of an import in a fresh interpreter, without the interpreter's start."""
    code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    return lambda: float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def main() -> None:
    """Measures both."""
    contestants = {statement: importing(statement) for statement in (PEER, "import jaxdl")}
    publish("import_time", "Import time", PEER, {"fresh interpreter": summarise(alternate(contestants, ROUNDS), PEER)})


if __name__ == "__main__":
    main()
