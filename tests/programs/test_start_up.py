"""Starting a program: help and mistakes are answered before slow imports, Ctrl-C and a full disk end it in one line."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.helpers.commands import PROGRAMS
from tests.helpers.processes import messages

SLOW = ("torch", "torchvision", "cv2", "av", "scipy", "matplotlib", "tensorboardX", "onnx", "onnxruntime", "openvino",
        "hypothesis")
# Runs a program twice in this process, with --help and with a flag that no program has.
TWICE = f"""
import json, runpy, sys
program, statuses = sys.argv[1], []
for flag in ("--help", "--no-such-flag"):
    sys.argv = [program, flag]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        statuses.append(end.code)
print(json.dumps([statuses, [name for name in {SLOW} if name in sys.modules]]))
"""


def start(*command, **options):
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, text=True, stderr=subprocess.PIPE, **options)


def test_the_programs_are_found():
    assert len(PROGRAMS) > 25 and {"main.py", "test_models.py", "online_demo/main.py", "tools/predict.py"} <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_mistakes_import_nothing_slow(program):
    process = start("-c", TWICE, program, stdout=subprocess.PIPE)
    out, errors = process.communicate(timeout=120)
    statuses, slow = json.loads(out.splitlines()[-1])
    assert out.startswith("usage: ") and (statuses, slow) == ([0, 2], [])
    assert errors.count("\n") == 1 and errors.startswith(f"{os.path.basename(program)}: error: ")


def test_a_wrong_value_imports_nothing_slow():
    code = TWICE.replace('"--no-such-flag"', '"--arch=resnet51"')
    out, errors = start("-c", code, "main.py", stdout=subprocess.PIPE).communicate(timeout=120)
    assert json.loads(out.splitlines()[-1]) == [[0, 2], []] and "--arch 'resnet51': choose resnet18" in errors


@pytest.mark.parametrize("argv, words", [
    (["gone.mp4", "--weights", "README.md"], "no such source: gone.mp4"),
    (["README.md", "--weights", "gone.pth"], "no such checkpoint: gone.pth"),
    (["README.md", "--weights", "demo"], "--weights demo: the quickstart has not made"),
    (["README.md", "--weights", "setup.cfg", "--output", "gone/x.mp4"], "gone is not a writable directory"),
    (["README.md", "--weights", "setup.cfg", "--output", "README.md"], "--output README.md would overwrite")])
def test_the_demo_looks_for_its_files_before_it_imports_torch(argv, words):
    if argv[-1] == "demo" and (ROOT / "runs" / "quickstart" / "demo_online.pth.tar").exists():
        pytest.skip("this checkout has the quickstart's model")
    process = start("-X", "importtime", "online_demo/main.py", *argv, stdout=subprocess.PIPE)
    _, errors = process.communicate(timeout=120)
    imported = {line.split("|")[-1].strip() for line in errors.splitlines() if line.startswith("import time:")}
    assert process.returncode == 2 and words in errors.splitlines()[-1]
    assert "ops.streaming.sources" in imported and "torch" not in imported


@pytest.mark.parametrize("program, flag", [
    ("main.py", "--help"), ("tools/gen_label_ucf101.py", "--help"), ("tools/download_weights.py", "--list")])
def test_a_full_disk_under_standard_output_is_one_line(program, flag):
    with open("/dev/full", "w") as full:
        process = start(program, flag, stdout=full)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors == f"{os.path.basename(program)}: error: cannot write standard output: No space left on device\n"


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------

# Runs a program that gets SIGINT when it first imports a certain module.
INTERRUPTED = """
import os, runpy, signal, sys
module, *sys.argv = sys.argv[1:]

class Finder:
    def find_spec(name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("module, command", [
    *((module, ["main.py", "ucf101", "RGB"]) for module in ("torch", "torch.fx", "ops.training.loop")),
    ("numpy", ["test_models.py", "ucf101", "--weights", "a.pth"]), ("cv2", ["online_demo/main.py", "webcam"]),
    ("av", ["tools/check_dataset.py", "ucf101"])])
def test_ctrl_c_during_imports_is_one_line(module, command):
    process = start("-c", INTERRUPTED, module, *command, stdout=subprocess.DEVNULL)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, f"{os.path.basename(command[0])}: interrupted\n")


def test_ctrl_c_during_fuzzing_is_one_line(tmp_path):
    """A terminal sends SIGINT to the program and to the process that tries the inputs."""
    process = start("tools/fuzz.py", "--kinds", "labels", "--directory", tmp_path, stdout=subprocess.PIPE,
                    start_new_session=True)
    while not any(tmp_path.glob("labels/*")):
        time.sleep(0.1)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, messages(errors)) == (130, "fuzz.py: interrupted\n")
