"""The programs of the repository, as files to run."""
from tests.conftest import ROOT

_PLACES = ("main.py", "test_models.py", "online_demo/main.py", "tools/**/*.py")
PROGRAMS = sorted(str(path.relative_to(ROOT)) for place in _PLACES for path in ROOT.glob(place)
                  if 'if __name__ == "__main__":' in path.read_text())
