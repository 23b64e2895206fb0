#!/usr/bin/env bash
# Run the tests with the lowest versions that requirements*.txt allow, on Python 3.10. Arguments go to pytest.
# Needs python3.10 on the PATH, or PYTHON310=/path/to/python3.10. The environment is .venv-lowest; it is made once.
# Run it when a requirement changes or the code uses a newer function of a library.
set -eu
cd "$(dirname "$0")/.."
base=${PYTHON310:-$(command -v python3.10 || true)}
[ -n "$base" ] || {
    echo "test_lowest_versions.sh: error: no python3.10 on the PATH: install it, or set PYTHON310" >&2; exit 2; }
"$base" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' || {
    echo "test_lowest_versions.sh: error: $("$base" --version) is not Python 3.10, the lowest supported" >&2; exit 2; }
python=.venv-lowest/bin/python
[ -x "$python" ] || "$base" -m venv .venv-lowest

# `name>=1.2` becomes `name==1.2`. The linters stay behind: they check the code once, with current versions.
lowest=$(sed -nE 's/^([][A-Za-z0-9_-]+)>=([^ ,]+).*/\1==\2/p' requirements*.txt | grep -vE '^(flake8|isort|mypy)==' | sort -u)
printf '%s\n' "$lowest" >&2
# shellcheck disable=SC2086
"$python" -m pip install --quiet --disable-pip-version-check $lowest >&2
exec "$python" -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile "$@"
