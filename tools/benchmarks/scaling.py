"""A training step by frames per clip, and on one and two processes; see `tools.benchmarks.flags.add_scaling_flags`."""
import argparse
from typing import Any, Optional

import torch

from ops.common.device import pick_device
from ops.common.plots import draw_scaling, save_png
from ops.training.execution import choose_execution
from ops.training.precision import choose_precision
from tools.benchmarks.machine import describe_load, write_json
from tools.benchmarks.processes import Measured, measure
from tools.benchmarks.train_worker import Job, Mode


def run(args: argparse.Namespace) -> Optional[int]:
    device = pick_device(args.device)
    execution = choose_execution(device, choose_precision(args.amp, device))
    mode = Mode(f"{args.amp}, {execution}", channels_last=execution.channels_last, amp=args.amp,
                fused=execution.fused, keep_memory=execution.keep_memory)
    job = Job(mode, True, args.arch, args.batch_size, min(args.frames), args.input_size, str(device),
              args.threads or torch.get_num_threads())
    print(f"a training step of {args.arch} with shift: {args.batch_size} clips of {args.input_size}^2 on {device},"
          f" {mode.name}; {args.rounds} interleaved rounds after {args.warm_up} untimed ones\n{describe_load()}")
    frames = sorted(set(args.frames))
    jobs = [job.changed(num_segments=t) for t in frames]
    rows = dict(zip(frames, measure(jobs, args.rounds, args.warm_up, "frames")))
    print_frames(rows)
    pair = [job.changed(batch_size=2 * args.batch_size), job.changed(size=2, threads=max(1, job.threads // 2))]
    both = measure(pair, args.rounds, args.warm_up, "processes") if device.type == "cpu" else []
    if both:
        print_processes(job, *both)
    print(describe_load())
    if args.plot:
        save_png(draw_scaling(frames, [rows[t].median for t in frames], [rows[t].peak / 1e6 for t in frames]), args.plot)
    if args.json:
        write_json(args.json, args, describe(rows, both))
    return None


def print_frames(rows: dict[int, Measured]) -> None:
    """A row per number of frames."""
    print("\n| frames | step s | min-max | ms per frame | peak MB |\n|---|---|---|---|---|")
    for frames, row in rows.items():
        print(f"| {frames} | {row.median:.3f} | {min(row.seconds):.3f}-{max(row.seconds):.3f}"
              f" | {1000 * row.median / frames:.1f} | {row.peak / 1e6:.0f} |")


def print_processes(job: Job, one: Measured, two: Measured) -> None:
    """The same clips on one process and, half of them each, on two."""
    clips = 2 * job.batch_size
    print(f"\n| processes | clips of {job.num_segments} frames each | threads each | step s | min-max | clips/s | ratio"
          " | peak MB each |\n|---|---|---|---|---|---|---|---|")
    for processes, row in ((1, one), (2, two)):
        print(f"| {processes} | {clips // processes} | {max(1, job.threads // processes)} | {row.median:.3f}"
              f" | {min(row.seconds):.3f}-{max(row.seconds):.3f} | {clips / row.median:.2f} | {one.over(row):.2f}"
              f" | {row.peak / 1e6:.0f} |")
    print()


def describe(rows: dict[int, Measured], both: list[Measured]) -> dict[str, Any]:
    """For JSON."""
    return {"frames": {str(frames): row.describe() for frames, row in rows.items()},
            "processes": {str(i): row.describe() for i, row in enumerate(both, 1)}}
