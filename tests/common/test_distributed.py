"""Real processes on two imagined machines: who goes first, who compares with whom, and what a stopped launcher leaves."""
import os
import signal
import socket
import time

import pytest

from ops.common import distributed
from ops.common.errors import UserError
from tests.helpers.processes import children, finish, start

JOIN = """
import os, sys, time
import torch
from torch import nn
from ops.common import distributed
from ops.common.errors import UserError
rank, local_rank, size, port = map(int, sys.argv[1:])
os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(local_rank), MASTER_ADDR="127.0.0.1",
                  MASTER_PORT=str(port))
with distributed.joined(torch.device("cpu"), 60):
"""


def run_ranks(code, local_ranks=(0, 1)):
    """Run the lines `code` as one process per entry of `local_ranks`: what each rank printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start("-c", JOIN + code, rank, local_rank, len(local_ranks), port)
                 for rank, local_rank in enumerate(local_ranks)]
    ended = [finish(process, 120) for process in processes]
    assert all(status == 0 for status, _, _ in ended), ended
    return [text for _, text, _ in ended]


def test_rank_0_goes_first_then_one_process_of_every_machine():
    """Ranks 0 and 1 are on one machine, 2 and 3 on another; each block of the program waits anew."""
    times = [list(map(float, text.split())) for text in run_ranks("""
    for _ in range(2):
        with distributed.main_process_first():
            begun = time.time()
            time.sleep(0.3)
            print(begun, time.time())
        distributed.gather(rank)
""", (0, 1, 0, 1))]
    for begun, ended in ((0, 1), (2, 3)):
        assert times[0][ended] <= min(times[1][begun], times[2][begun]) and times[2][ended] <= times[3][begun]


def test_an_error_of_rank_0_lets_the_others_go_on():
    texts = run_ranks("""
    try:
        with distributed.main_process_first():
            if rank == 0:
                raise UserError("no disk")
            print("went on")
    except UserError as error:
        print(error)
""")
    assert texts == ["no disk\n", "went on\n"]


def test_machines_fetch_at_the_same_time_and_leave_together():
    """Ranks 0 and 1 are on one machine, 2 and 3 on another, which takes until rank 1 has begun."""
    texts = run_ranks("""
    distributed.POLL = 0.05
    for number in range(2):
        with distributed.one_per_machine_first():
            distributed.tell(f"begun {number} {rank}")
            if local_rank:
                assert distributed.told(f"ended {number} {rank - 1}"), "before its machine's first process had ended"
            for other in {0: [2], 2: [0, 1]}.get(rank, []):  # the first processes are inside at the same time
                while not distributed.told(f"begun {number} {other}"):
                    time.sleep(0.02)
            distributed.tell(f"ended {number} {rank}")
        assert all(distributed.told(f"ended {number} {other}") for other in range(4)), "before all had ended"
    distributed.gather(rank)
    print("in order")
""", (0, 1, 0, 1))
    assert texts == ["in order\n"] * 4


@pytest.mark.parametrize("end, reason", [
    ("raise UserError('no disk')", "rank 2 could not do its part: its own message gives the reason"),
    ("os._exit(0)", "rank 2 is lost: it gave no sign of life for 2 seconds (dist_timeout)")])
def test_a_machine_that_cannot_fetch_ends_the_others(end, reason):
    texts = run_ranks(f"""
    distributed._limit, distributed.BEAT, distributed.POLL = 2.0, 0.2, 0.1
    try:
        with distributed.one_per_machine_first():
            if rank == 2:
                {end}
            time.sleep(3 if rank == 0 else 0)
        print("left")
    except UserError as error:
        print(error, flush=True)
    distributed.tell("ended " + str(rank))
    while rank == 0 and not (distributed.told("ended 1") and distributed.told("ended 3")):  # they ask rank 0
        time.sleep(0.02)
""", (0, 1, 0, 1))
    assert [texts[rank] for rank in (0, 1, 3)] == [reason + "\n"] * 3
    assert texts[2] in ("no disk\n", "")


def test_processes_compare_values_and_share_buffers():
    texts = run_ranks("""
    distributed.check_equal("the same", "never")
    try:
        distributed.check_equal(rank, "the disks differ", "root_model")
    except UserError as error:
        print(error.for_command_line())
    norm = nn.BatchNorm2d(2)
    norm.running_mean += rank + 1
    norm.num_batches_tracked += rank + 1
    distributed.share_buffers(norm)
    print(norm.running_mean.tolist(), int(norm.num_batches_tracked))
""")
    assert texts == ["the disks differ\n[1.0, 1.0] 1\n"] * 2


def test_one_process_compares_with_none():
    distributed.check_equal(1, "never")
    with distributed.main_process_first(), distributed.one_per_machine_first():
        pass
    with pytest.raises(UserError):  # an error of the block itself passes through
        with distributed.main_process_first():
            raise UserError("no disk")


LAUNCH = """
import sys
from ops.common import distributed
sys.argv = ["-c", {program!r}]
sys.exit(distributed.launch({gpus}))
"""


def test_launched_processes_see_gpus_by_this_process_numbers():
    program = "import os; os.write(1, f\"{os.environ['RANK']} {os.environ['CUDA_VISIBLE_DEVICES']}\\n\".encode())"
    code = "import os; os.environ['CUDA_VISIBLE_DEVICES'] = '4,6,7'\n" + LAUNCH.format(program=program, gpus=[2, 0])
    status, text, err = finish(start("-c", code))
    assert status == 0 and sorted(text.splitlines()) == ["0 7,4", "1 7,4"], err


def test_a_signal_ends_launcher_and_processes_with_its_status():
    process = start("-c", LAUNCH.format(program="import os, time; os.write(1, b'up\\n'); time.sleep(600)", gpus=[0, 1]))
    for _ in range(2):
        assert process.stdout.readline() == "up\n"
    ranks = children(process)
    process.send_signal(signal.SIGTERM)
    status, _, err = finish(process, 60)
    assert status == 128 + signal.SIGTERM and "Traceback" not in err, err
    until = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in ranks.values()):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_killed_process_is_reported_as_a_shell_would():
    program = "import os, signal, time; os.environ['RANK'] == '1' and os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)"
    status, _, err = finish(start("-c", LAUNCH.format(program=program, gpus=[0, 1])))
    assert status == 128 + signal.SIGKILL and "ChildFailedError" not in err, err
