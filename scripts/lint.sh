#!/usr/bin/env bash
# flake8 and isort over everything, mypy over ops/. Expected output: mypy's "Success" and nothing else.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
"$python" -m flake8 .
"$python" -m isort --check-only --quiet .
"$python" -m mypy
