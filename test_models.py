"""Score checkpoints and exported models, alone or as an ensemble: flags -> build -> loop -> report.

python test_models.py somethingv2 --weights=A.pth --test_segments=8 --test_crops=3 --twice_sample
"""
import argparse
import logging
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Optional, Sequence

import opts
from ops.common import cli

if __name__ == "__main__":
    cli.check_usage(opts.parse_test)  # torch, which the imports below need, takes seconds

import torch

from ops.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ops.checkpoints.matching import check_same_classes
from ops.checkpoints.store_name import parse_name
from ops.common import distributed
from ops.common.device import pick_devices
from ops.common.errors import UserError
from ops.common.files import atomic_write, check_not_inputs, check_writable
from ops.common.words import counted
from ops.data.list_files import read_list
from ops.data.loader import make_loader
from ops.data.test_protocol import TestProtocol
from ops.data.tsn_dataset import TSNDataSet
from ops.dataset_config import DATASET_FILE, DatasetPaths, dataset_root, mirror_labels, resolve_dataset
from ops.evaluation.clip_runtime import ClipRuntime, TorchClip
from ops.evaluation.ensemble import ScoredList, check_same_videos, combine
from ops.evaluation.evaluate import evaluate
from ops.evaluation.metrics import REPORT, Predictions, names_or_numbers, write_report
from ops.evaluation.multi_label import MultiLabelPredictions
from ops.flops import gflops_per_view
from ops.models import TSN
from ops.remote.data import fetch_data
from ops.remote.files import check_address, copy_out, local_file
from ops.runtimes.clips import ExportedClip, StepClip
from ops.runtimes.exported_file import format_of, read_exported
from ops.runtimes.registry import as_clip
from ops.spec import ModelSpec
from ops.streaming.online import OnlineTSM
from ops.streaming.online_scoring import ONLINE_REPORT, count_frames, score_online, trained_stride, write_online_report
from ops.streaming.step_runtime import StepRuntime

log = logging.getLogger("test_models")


@dataclass
class Member:
    """One checkpoint of the ensemble, the runtime that computes it, and its videos. mirror: see `mirror_labels`."""
    found: Checkpoint
    runtime: ClipRuntime
    data: DatasetPaths
    coeff: float
    mirror: Optional[list[int]]

    @property
    def class_names(self) -> Optional[list[str]]:
        return self.data.class_names or self.found.class_names


def main() -> int:
    distributed.quiet_others()
    args = opts.parse_test()
    device, gpus = pick_devices(args.device, args.gpus)
    if len(gpus) > 1 and not distributed.launched():
        return distributed.launch(gpus)
    with distributed.joined(device, args.dist_timeout), distributed.naming_lost_processes():
        directory, written = test(args, device)
        if args.train_url and distributed.world().is_main:
            copy_out(written, f"{args.train_url.rstrip('/')}/{directory.resolve().name}")
    return 0


def test(args: argparse.Namespace, device: torch.device) -> tuple[Path, list[Path]]:
    """Fetch, build the members, score each on its list, report: the work of each process.

    Returns the directory of the report, and the files that this process wrote.
    """
    if args.train_url and distributed.world().is_main:
        check_address(args.train_url, "train_url")
    with distributed.one_per_machine_first():
        if args.data_url:
            fetch_data(args.data_url, dataset_root(args.root_dataset))
        args.weights = [local_file(file, "weights") for file in args.weights]
    with distributed.main_process_first():  # the gestures data are made at their first use
        members = [build(args, i, device) for i in range(len(args.weights))]
    log_members(members)
    directory = Path(args.out) if args.out else Path("log") / f"test_{run_name(members[0].found.path)}"
    check_outputs(args, members, directory)
    if args.online:
        warn_no_effect(args)
        return directory, stream(members[0], args, device=device, directory=directory)
    log_protocol(args.protocol, members)
    check_same_videos([ScoredList(str(m.data.val_list), video_list(m, args).video_list) for m in members])
    scores = combine([run(member, args) for member in members], [member.coeff for member in members])
    if not distributed.world().is_main:
        return directory, []
    names = members[0].class_names
    written = write_report(scores, directory, names=names, extra={
        "dataset": args.dataset, "weights": [str(m.found.path) for m in members], "coeff": args.coeff,
        "segments": [m.runtime.spec.num_segments for m in members], "views": args.protocol.views})
    if args.csv_file:
        write_csv(Path(args.csv_file), members[0], scores)
        written.append(Path(args.csv_file))
    print_results(scores, names, directory)
    return directory, written


def check_outputs(args: argparse.Namespace, members: Sequence[Member], directory: Path) -> None:
    """Refuse, before any video is read, outputs that cannot be written or would replace what the test reads."""
    for output in outputs(args, directory):
        check_writable(output)
    data = {(m.data.val_list, m.data.frames): m.data for m in members}  # members of an ensemble often share theirs
    inputs = chain((m.found.path for m in members), [args.dataset_file or DATASET_FILE],
                   *(paths.inputs() for paths in data.values()))
    check_not_inputs(outputs(args, directory), inputs)


def outputs(args: argparse.Namespace, directory: Path) -> dict[Path, str]:
    """Each file that the test may write, and the option that names it."""
    report = {directory / name: "out" for name in (*REPORT, *(ONLINE_REPORT if args.online else ()))}
    if not args.csv_file:
        return report
    if Path(args.csv_file).resolve() in {path.resolve() for path in report}:
        raise UserError(f"csv_file {args.csv_file} would overwrite a file of the report: choose another name", "csv_file")
    return {**report, Path(args.csv_file): "csv_file"}


# ---- build ----------------------------------------------------------------------------------------------------

def build(args: argparse.Namespace, i: int, device: torch.device) -> Member:
    """The i-th member of the ensemble."""
    path, options = Path(args.weights[i]), {**opts.overrides(args, i), "num_segments": args.test_segments[i]}
    exported = read_exported(path) if format_of(path) else None
    found = exported.info.as_checkpoint(path, **options) if exported else load_checkpoint(path, **options)
    data = resolve_dataset(args.dataset, found.spec.modality, args.root_dataset, val_list=args.test_list[i],
                           root_path=args.root_path[i], dataset_file=args.dataset_file, needed=["val_list"])
    check_same_classes(found, data)
    mirror = mirror_labels(data, found.class_names)
    if mirror is None and any(args.protocol.mirrored):
        raise UserError(f"--test_crops {args.protocol.crops} averages mirrored crops, which needs class names to know which"
                        f" labels swap; {data.name} has none: give the data set its file of class names, or use"
                        " --test_crops 5")
    runtime = as_clip(exported, device=device) if exported else TorchClip(found.build().to(device))
    runtime.class_names = data.class_names or found.class_names
    return Member(found, runtime, data, args.coeff[i], mirror)


def video_list(member: Member, args: argparse.Namespace) -> TSNDataSet:
    """The member's list with the protocol's frames and views, cut at --max_num."""
    spec, data, protocol = member.runtime.spec, member.data, args.protocol
    videos = TSNDataSet(data.frames, data.val_list, spec.num_segments, spec.segment_length, spec.modality, data.template,
                        protocol.transform(member.runtime.preprocessing), test_mode=True, dense_sample=protocol.dense,
                        twice_sample=protocol.twice, num_class=spec.num_class, data_format=args.data_format,
                        multi_label=data.multi_label)
    if args.max_num > 0:
        videos.video_list = videos.video_list[:args.max_num]
    return videos


# ---- loop -----------------------------------------------------------------------------------------------------

def run(member: Member, args: argparse.Namespace) -> Predictions:
    """One member's predictions for its whole list."""
    loader = make_loader(video_list(member, args), args.batch_size, workers=args.loaders, train=False)
    scores = evaluate(member.runtime, loader, mirrored=args.protocol.mirrored, mirror_labels=member.mirror,
                      softmax=args.softmax, desc=member.found.path.name)
    broken = int((~scores.logits.isfinite().all(dim=1)).sum())
    if broken:
        raise UserError(f"{member.found.path}: its scores of {broken} of {len(scores.labels)} videos are NaN or Inf: its"
                        " weights are damaged: use an earlier checkpoint")
    return scores


def stream(member: Member, args: argparse.Namespace, *, device: torch.device, directory: Path) -> list[Path]:
    """--online: stream whole videos frame by frame; accuracy after every n frames, and at the end. The files written."""
    videos = video_list(member, args)
    dense = bool((member.found.content.get("train") or {}).get("dense_sample"))
    stride = args.online_stride or trained_stride(count_frames(videos), member.found.spec.num_segments, dense)
    result = score_online(step_of(member, device), videos, stride, streams=args.batch_size, workers=args.loaders)
    if not distributed.world().is_main:
        return []
    written = write_report(result.scores, directory, names=member.class_names, extra={
        "dataset": args.dataset, "weights": [str(member.found.path)], "online_stride": stride,
        "online_top1": result.top1.tolist()})
    written += write_online_report(result, directory)
    print(f"top-1 after n frames (one of every {stride}): {' '.join(f'{value:.1f}' for value in result.top1)}")
    print_results(result.scores, member.class_names, directory)
    return written


def step_of(member: Member, device: torch.device) -> StepRuntime:
    """What streams the member's videos. UserError for an exported clip model."""
    if isinstance(member.runtime, ExportedClip):
        raise UserError(f"--online: {member.found.path} is an exported clip model, which takes whole clips: export the step"
                        " with tools/export.py --model online")
    return member.runtime.step if isinstance(member.runtime, StepClip) else OnlineTSM(member.found.build()).to(device)


# ---- report ---------------------------------------------------------------------------------------------------

def log_members(members: Sequence[Member]) -> None:
    """What each checkpoint is, and how that is known."""
    for member in members:
        spec = member.found.spec
        log.info("%s: %s %s, %d segments, shift %s (by its %s)", member.found.path, spec.arch, spec.modality,
                 spec.num_segments, f"1/{spec.shift_div} {spec.place}" if spec.shift else "none", member.found.source)


def warn_no_effect(args: argparse.Namespace) -> None:
    """Warn of each flag that --online ignores."""
    for flag, given in (("softmax", args.softmax), ("coeff", args.coeff != [1.0])):
        if given:
            log.warning("warning: --%s has no effect with --online: it is for ensembles", flag)


def run_name(path: Path) -> str:
    """The name of a checkpoint's run: the name of its directory for ckpt*.pth.tar, else of the file."""
    if path.name.startswith("ckpt") and parse_name(path):
        return path.absolute().parent.name
    return path.name.split(".")[0]


def write_csv(path: Path, member: Member, scores: Predictions) -> None:
    """`name;label` lines, for somethingv2 `name;i1;..;i5` with class indices, best first (the leaderboards' form).

    Of a multi-label data set, each line has all classes whose probability is at least a half, the likeliest first.
    """
    labels = names_or_numbers(member.class_names, scores.logits.shape[1])
    videos = read_list(member.data.val_list, multi_label=member.data.multi_label)
    if isinstance(scores, MultiLabelPredictions):
        answers = [[labels[i] for i in row] for row in scores.present()]
    else:
        best = scores.logits.topk(min(5, scores.logits.shape[1])).indices.tolist()
        answers = [[str(i) for i in row] if member.data.name == "somethingv2" else [labels[row[0]]] for row in best]
    with atomic_write(path) as f:
        for video, answer in zip(videos, answers):
            f.write(";".join([video.path, *answer]) + "\n")


def log_protocol(protocol: TestProtocol, members: Sequence[Member]) -> None:
    """The work that each video takes."""
    cost = sum(gflops_per_view(empty_model(m.runtime.spec), protocol.size(m.runtime.preprocessing)) for m in members)
    log.info("protocol: %s = %s per video, %.1f GFLOPs per video (multiply-adds of convolutions and classifier)",
             protocol.words, counted(protocol.views, "view"), cost * protocol.views)


def empty_model(spec: ModelSpec) -> TSN:
    """A model without values, for its shapes."""
    with torch.device("meta"):
        return TSN.from_spec(spec)


def print_results(scores: Predictions, names: Sequence[str] | None, directory: Path) -> None:
    """Per-class accuracies, or average precisions, the report's directory, and the two published last lines."""
    labels = names_or_numbers(names, scores.logits.shape[1])
    multi_label = isinstance(scores, MultiLabelPredictions)
    for name, value in zip(labels, scores.average_precisions() if multi_label else scores.class_accuracies()):
        print(f"{value:6.2f}% {name}" if value == value else f"   none {name}")
    print(f"{'' if multi_label else 'confusion matrix, '}per-class table and results.json: {directory}")
    if multi_label:
        print(f"Overall mAP {scores.mean_ap:.2f}% Prec@1 {scores.top1:.2f}% Prec@5 {scores.top5:.2f}%", flush=True)
        return
    print(f"Class Accuracy {scores.class_accuracy:.2f}%")
    print(f"Overall Prec@1 {scores.top1:.2f}% Prec@5 {scores.top5:.2f}%", flush=True)


if __name__ == "__main__":
    cli.run(main)
