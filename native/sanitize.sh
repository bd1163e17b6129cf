#!/usr/bin/env bash
# Builds with the address and undefined-behaviour sanitizers and runs the tests of the compiled part with them.
# Run it in the environment that has jaxdl[test]. It installs jaxdl-native there twice: so, and at the end as it was.
set -euo pipefail
native=$(cd "$(dirname "$0")" && pwd)
trap 'pip install -q "$native"' EXIT
pip install -q "$native" --config-settings=cmake.define.JAXDL_SANITIZE=ON
# Python itself is not built with them, so they are loaded first; what XLA and Python never free is not of interest.
libraries="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so) $(g++ -print-file-name=libstdc++.so)"
cd "$native/.."
LD_PRELOAD="$libraries" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 python -m pytest \
  -n 0 tests/test_native.py tests/test_native_pooling.py \
  -k "wrong_call or survives or right_call or known or xlas or vmap or threads or loop or places or infinities"
