"""The scripts that start programs on many processes and machines: here all on this machine, over gloo, without GPUs."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.files import tree
from tests.helpers.programs import make_frames, make_somethingv2
from tests.helpers.small_run import NAME, flags, rows

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
ONE_EPOCH = NAME.replace("_e3_", "_e1_")
# Slurm's commands, as far as the scripts need them, for a job of two nodes that are both this machine.
SRUN = '#!/bin/sh\nSLURM_NODEID=1 "$@" &\nSLURM_NODEID=0 "$@" && wait $!\n'
SCONTROL = '#!/bin/sh\n[ "$*" = "show hostnames node[1-2]" ] && printf "localhost\\nlocalhost\\n"\n'


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.iterdir()))
def test_every_script_is_valid_bash(script):
    done = subprocess.run(["bash", "-n", SCRIPTS / script], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_somethingv2(root, train=12, val=7)
    return root


def launch(script, *argv, **environment):
    """Run a script with one process per "machine"."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PROCESSES": "1", "PYTHON": sys.executable,
           "TORCHRUN": f"{sys.executable} -m torch.distributed.run", **environment}
    return subprocess.Popen(["bash", SCRIPTS / script, *map(str, argv)], env=env, cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended_well(*processes):
    for process in processes:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        yield out, err


def weights(out):
    return torch.load(out / "model" / ONE_EPOCH / "ckpt.pth.tar", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def on_one_node(data, tmp_path_factory):
    """The directory of a run of two processes on one machine."""
    out = tmp_path_factory.mktemp("one node")
    (_, err), = ended_well(launch("torchrun_one_node.sh", "main.py", *flags(data, out), "--epochs", 1, PROCESSES="2"))
    assert "8 clips per step" in err and len(rows_of(out)) == 1
    return out


def rows_of(out):
    (out / "log" / ONE_EPOCH).rename(out / "log" / NAME)
    try:
        return rows(out)
    finally:
        (out / "log" / NAME).rename(out / "log" / ONE_EPOCH)


@pytest.fixture
def slurm(tmp_path):
    """The environment of a Slurm job of two nodes."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_JOB_ID": str(os.getpid())}


def test_two_machines_train_as_one_with_two_processes(on_one_node, data, slurm, tmp_path):
    (out, err), = ended_well(launch("slurm_train.sbatch", "main.py", *flags(data, tmp_path), "--epochs", 1, **slurm))
    assert "8 clips per step" in err and len(rows_of(tmp_path)) == 1
    one, two = weights(on_one_node), weights(tmp_path)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("missing", ["NODES", "NODE_RANK", "MASTER_ADDR"])
def test_what_is_not_set_is_named(missing):
    values = {"NODES": "2", "NODE_RANK": "0", "MASTER_ADDR": "localhost"}
    process = launch("torchrun_nodes.sh", "main.py", **{**values, missing: ""})
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and f"{missing}: set it to" in err and err.count("\n") == 1


def test_a_job_array_does_the_parts(tmp_path):
    make_frames(tmp_path / "frames", {f"v{i}": (3, 0) for i in range(5)})
    command = ["tools/make_shards.py", tmp_path / "frames", tmp_path / "shards", "--videos_per_shard", 1, "-j", 1]
    for number in ("2", "1"):
        list(ended_well(launch("slurm_parts.sbatch", 2, *command, SLURM_ARRAY_TASK_ID=number)))
    list(ended_well(subprocess.Popen([sys.executable, *map(str, [*command[:2], tmp_path / "whole", *command[3:]])], cwd=ROOT,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)))
    assert tree(tmp_path / "shards") == tree(tmp_path / "whole")
