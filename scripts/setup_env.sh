#!/usr/bin/env bash
# Create (or reuse) the virtual environment .venv, install a requirements file, and print the path of its python.
# Usage: PYTHON=$(bash scripts/setup_env.sh [requirements.txt])
# Packages are installed once: a stamp in .venv records the content of the requirements files.
set -eu
cd "$(dirname "$0")/.."
requirements=${1:-requirements.txt}
python=.venv/bin/python

if [ ! -x "$python" ]; then
    base=$(command -v python3 || command -v python || true)
    [ -n "$base" ] || { echo "setup_env.sh: error: no python3 on the PATH: install Python 3.10 or newer" >&2; exit 2; }
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "setup_env.sh: error: $("$base" --version) is too old: install Python 3.10 or newer" >&2; exit 2; }
    # Debian packages the venv module separately: say so, and do not leave half an environment behind.
    "$base" -m venv .venv >&2 || {
        rm -rf .venv
        echo "setup_env.sh: error: cannot make a virtual environment (on Debian/Ubuntu: apt install python3-venv)" >&2
        exit 2; }
fi

stamp=.venv/installed-$(basename "$requirements")
content=$(cat requirements*.txt)
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$content" ]; then
    echo "installing $requirements into .venv (once; several GB with PyTorch's CUDA build)" >&2
    "$python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2
    printf '%s\n' "$content" > "$stamp"
fi
echo "$PWD/$python"
