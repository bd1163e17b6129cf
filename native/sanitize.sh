#!/usr/bin/env bash
# Builds with the address and undefined-behaviour sanitizers and runs the tests of the compiled part with them.
# Run it in the environment that has jaxdl[test]; it installs jaxdl-native there twice, at the end as it was.
set -euo pipefail
cd "$(dirname "$0")"
trap 'pip install -q .' EXIT
pip install -q . --config-settings=cmake.define.JAXDL_SANITIZE=ON
# Python itself is not built with them, so they are loaded first; what XLA and Python never free is not of interest.
export LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so) $(g++ -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
cd .. && python -m pytest -n 0 tests/test_native.py -k "wrong_calls or survives or right_call or known or xlas or vmap or threads"
