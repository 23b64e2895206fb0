#!/usr/bin/env bash
# Set everything up, lint, run the tests. Arguments go to pytest:  bash scripts/run_tests.sh -k shift
# Expected: pytest's "N passed" as the last line, in under 8 minutes on two cores after the installation.
set -eu
cd "$(dirname "$0")/.."
PYTHON=$(bash scripts/setup_env.sh requirements-dev.txt)
export PYTHON
bash scripts/lint.sh
# A file's tests stay in one process, so what they share is made once.
exec "$PYTHON" -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile "$@"
