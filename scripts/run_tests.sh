#!/usr/bin/env bash
# Set everything up, lint, run the tests. Arguments go to pytest:  bash scripts/run_tests.sh -k shift
# Expected: "N passed" from pytest as the last line, 10 minutes after the installation on two cores.
set -eu
cd "$(dirname "$0")/.."
PYTHON=$(bash scripts/setup_env.sh requirements-dev.txt)
export PYTHON
bash scripts/lint.sh
# loadfile: the tests of one file run in one process, so their shared fixtures are made once. In the order of their names:
# by their number of tests, files of few slow tests would come last and keep a single process busy.
exec "$PYTHON" -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder "$@"
