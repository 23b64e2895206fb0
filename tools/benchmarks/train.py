"""A training step in every mode, compared with the published step; see `tools.benchmarks.flags.add_train_flags`."""
import argparse
from typing import Any, Optional

import torch

from ops.common.device import pick_device
from ops.training.execution import check_compiler
from tools.benchmarks.machine import describe_load, write_json
from tools.benchmarks.processes import Measured, measure
from tools.benchmarks.train_worker import Job, Mode

PUBLISHED = Mode("published: float32, NCHW, eager", published=True)
DEFAULT = Mode("float32, channels last, fused SGD, freed memory kept", channels_last=True, fused=True, keep_memory=True)
BF16 = Mode("bf16", amp="bf16")
LAST = BF16.plus("channels last", channels_last=True)
FUSED = LAST.plus("fused SGD", fused=True)
KEPT = FUSED.plus("freed memory kept", keep_memory=True)
MODES = {"published": PUBLISHED, "float32": Mode("float32"),
         "float32_last": Mode("float32, channels last", channels_last=True), "default": DEFAULT, "bf16": BF16,
         "bf16_last": LAST, "bf16_fused": FUSED, "bf16_kept": KEPT, "inplace": KEPT.plus("--inplace", inplace=True),
         "compile": KEPT.plus("--compile", compile=True)}


def run(args: argparse.Namespace) -> Optional[int]:
    device = pick_device(args.device)
    if "compile" in args.mode:
        check_compiler()
    print(f"a training step of {args.arch}: {args.batch_size} clips x {args.num_segments} frames x {args.input_size}^2 on"
          f" {device}; {args.rounds} rounds of the published step, this mode, and this mode without shift, after"
          f" {args.warm_up} untimed ones\n{describe_load()}")
    print("\n| mode | TSM s | min-max | times published | TSN s | TSM / TSN | TSM peak MB | TSN peak MB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    base = Job(PUBLISHED, True, args.arch, args.batch_size, args.num_segments, args.input_size, str(device),
               args.threads or torch.get_num_threads())
    rows = []
    for name in dict.fromkeys(args.mode):
        steps = [base.changed(mode=MODES[name], shift=shift) for shift in (True, False)]
        tsm, tsn, *other = measure(steps if name == "published" else [*steps, base], args.rounds, args.warm_up, name)
        rows.append(describe(MODES[name], tsm, tsn, other[0] if other else tsm))
        print(table_row(rows[-1]), flush=True)
    print(f"\n{describe_load()}")
    if args.json:
        write_json(args.json, args, rows)
    return None


def describe(mode: Mode, tsm: Measured, tsn: Measured, published: Measured) -> dict[str, Any]:
    """A row, as it is written to JSON."""
    return {"mode": mode.name, "times_published": published.over(tsm), "tsm_over_tsn": tsm.over(tsn),
            "tsm": tsm.describe(), "tsn": tsn.describe(), "published": published.describe()}


def table_row(row: dict[str, Any]) -> str:
    """The steps of TSM and TSN with their ratios and peak memory."""
    tsm, tsn = row["tsm"], row["tsn"]
    return (f"| {row['mode']} | {tsm['median']:.3f} | {min(tsm['seconds']):.3f}-{max(tsm['seconds']):.3f}"
            f" | {row['times_published']:.2f} | {tsn['median']:.3f} | {row['tsm_over_tsn']:.3f}"
            f" | {tsm['peak_bytes'] / 1e6:.0f} | {tsn['peak_bytes'] / 1e6:.0f} |")
