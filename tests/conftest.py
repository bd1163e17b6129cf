"""Settings and fixtures for all tests."""

import gc
import os
import signal
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Before JAX is imported: compiled programs are kept between runs of the suite, apart for each of its processes, since
# two that write one file would read each other's halves.
cache = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(cache, os.environ.get("PYTEST_XDIST_WORKER", ""))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax
import pytest

from jaxdl import data

# A third of the compiler's time. (XLA ends a program that gives it a flag it does not know.) By default XLA cuts a
# program into parts that are compiled side by side, which costs more in all; here each core has a process of its own.
UNOPTIMIZED = ["--xla_backend_optimization_level=0"]
if tuple(map(int, jax.__version__.split(".")[:2])) < (0, 11):
    UNOPTIMIZED += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
SHARED = ROOT.parent / "shared"
collect_ignore = ["oracles/torch_models.py", "children"]  # runs where torch is; programs that tests start
if "device_count=8" not in os.environ.get("XLA_FLAGS", ""):
    collect_ignore.append("eight_devices")  # test_eight_devices.py runs them


def pytest_configure(config):
    """Most of the suite's time is the compiler's, and most of what it compiles runs once: nothing is optimised, nor in
    the processes that tests start. With `-m slow`, and where $JAXDL_TEST_OPTIMIZED is set, all is.
    """
    chosen = config.option.markexpr
    optimized = os.environ.get("JAXDL_TEST_OPTIMIZED") or ("slow" in chosen and "not slow" not in chosen)
    others = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if flag not in UNOPTIMIZED]
    # XLA reads them when JAX first computes something.
    os.environ["XLA_FLAGS"] = " ".join([*others, *([] if optimized else UNOPTIMIZED)])


# Files that take longest come first, or one worker would end with one of them while the other is idle.
LONGEST = [
    "eight_devices",
    "resume",
    "population_resume",
    "open_engine",
    "watchers",
    "checkpoint",
    "optim_contract",
    "experiments",
    "population",
    "architectures",
    "transfer",
    "chain_order",
    "trust",
    "readme",
    "engine",
    "ablations",
    "train",
    "layer_loops",
    "processes",
    "ensemble",
    "averaging",
]


def pytest_collection_modifyitems(items):
    """The longest files first, and an hour for each slow test."""
    place = {f"test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


def pytest_collection_finish(session):
    """Python's garbage collector need not look again and again at what was imported, nor after every few objects."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(autouse=True, scope="session")
def _decoded_arrays_elsewhere(tmp_path_factory):
    """Tests neither read nor write the user's own cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("JAXDL_CACHE", str(tmp_path_factory.mktemp("jaxdl-cache")))
    patch.delenv("TFDS_DATA_DIR", raising=False)
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Every compiled program takes memory maps, of which Linux gives a process 65,530."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture
def x64():
    """Double precision within the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def ctrl_c():
    """Python's own handling of SIGINT, which what a shell starts in the background ignores, and its children too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def fashion():
    """The bundled data."""
    return data.load("fashion_mini")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Data sets prepared by tensorflow-datasets, which lie beside this repository on some machines."""
    folder = SHARED / "data" / "tfds"
    if not folder.is_dir():
        pytest.skip(f"needs the real data sets in {folder}")
    return folder


@pytest.fixture(scope="session")
def cifar10(real_data):
    """The real CIFAR-10."""
    return data.load("cifar10", data_dir=real_data)
