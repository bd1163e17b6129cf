"""Time from the import of jaxdl to the first finished step of CIFAR ResNets: blocks one by one against scanned blocks.

    python -m benchmarks.compile_time

Every measurement is a process of its own without a compilation cache. The time includes the initialisation of the
state, the compilation of the step, and the step itself on only 8 images, so that computing takes little of it. The
benchmark also measures the CPU seconds of initialisation alone (the peer draws each kernel with its four axes, as
Flax's initialisers do) and the median seconds of a later step on 64 images.
"""

import json
import os
import statistics
import subprocess
import sys
import time

from benchmarks.timing import alternate, publish, summarise

DEPTHS = (20, 56, 110)
ROUNDS = 3
FORMS = {"one by one": False, "scanned": True}


def child(depth: int, scan: bool, four_axes: bool) -> dict[str, float]:
    """Measures in this process, and returns the seconds by name."""
    import jax
    import jax.numpy as jnp

    from jaxdl import models, optim, train
    from jaxdl.models import resnets
    from jaxdl.typing import Batch

    if four_axes:
        resnets.he_normal = jax.nn.initializers.he_normal()  # type: ignore[assignment]
    model, tx = models.resnet_cifar(depth, scan=scan), optim.momentum(0.1)
    few, many = ((jnp.zeros((n, 32, 32, 3)), jnp.zeros(n, int)) for n in (8, 64))
    start, cpu = time.perf_counter(), time.process_time()
    state = train.init_state(model, tx, jax.random.key(0), (32, 32, 3))
    jax.block_until_ready(state.params)
    init_cpu = time.process_time() - cpu
    if four_axes:
        return {"init_cpu": init_cpu}
    step = train.make_step(model, tx)
    state, _ = jax.block_until_ready(step(state, Batch(*few)))
    first = time.perf_counter() - start
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, Batch(*many)))
        seconds.append(time.perf_counter() - start)
    return {"init_cpu": init_cpu, "first_step": first, "step": statistics.median(seconds[1:])}


def measure(depth: int, scan: bool, four_axes: bool = False) -> dict[str, float]:
    """Runs `child` in a fresh process."""
    call = f"child({depth}, {scan}, {four_axes})"
    code = f"import json; from benchmarks.compile_time import child; print(json.dumps({call}))"
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures every depth in both forms, and both ways to draw kernels."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}

    def contestant(form: str, depth: int):
        def run() -> float:
            result = measure(depth, FORMS[form])
            found.setdefault((form, depth), []).append(result)
            return result["first_step"]

        return run

    names = [(form, depth) for depth in DEPTHS for form in FORMS]
    first = alternate({f"{form} {depth}": contestant(form, depth) for form, depth in names}, ROUNDS)
    drawing = alternate({"four axes": lambda: measure(20, False, True)["init_cpu"]}, ROUNDS)
    # As in `first`, the first round does not count.
    steps = {key: [result["step"] for result in results[1:]] for key, results in found.items()}
    drawing["flat (jaxdl)"] = [result["init_cpu"] for result in found["one by one", 20][1:]]
    cases = {}
    for depth in DEPTHS:
        of_depth = {form: first[f"{form} {depth}"] for form in FORMS}
        cases[f"ResNet-{depth}, to the first finished step"] = summarise(of_depth, "one by one")
    for form in FORMS:
        of_form = {f"ResNet-{depth}": first[f"{form} {depth}"] for depth in DEPTHS}
        cases[f"{form}, depths against -20, to the first finished step"] = summarise(of_form, "ResNet-20")
    for depth in DEPTHS:
        cases[f"ResNet-{depth}, a later step on 64 images"] = summarise(
            {form: steps[form, depth] for form in FORMS}, "one by one"
        )
    cases["ResNet-20, CPU seconds of initialisation"] = summarise(drawing, "four axes")
    publish("compile_time", "Compilation", "one by one", cases)


if __name__ == "__main__":
    main()
