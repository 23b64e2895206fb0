"""Write the features of videos, what the classifier sees of them, as .npy files.

    python tools/extract_features.py 'videos/*.mp4' --weights CKPT --out FEATURES
    python tools/extract_features.py --dataset somethingv2 --weights CKPT --out FEATURES --per frame
    python tools/extract_features.py long.mp4 --weights ONLINE --out FEATURES --per stream

FEATURES/000000.npy and so on hold float32: (features,) of a clip of the network's T frames, (T, features) of its frames, or
(frames, features) of a video that is streamed frame by frame through an online model. index.csv names each file's video
and, from a list, its labels. After an interruption, run it again to resume. Videos that cannot be read are listed, and the
exit status is then 2.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import opts
from ops.common import cli
from ops.common.choices import FEATURES_PER
from ops.common.cli import Parser, number, one_of


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="*", metavar="VIDEO", help="file, directory of frames, directory or pattern")
    add = parser.add_argument_group("features").add_argument
    add("--weights", required=True, metavar="FILE", help="a checkpoint, or the name of a released one")
    add("--out", type=Path, required=True, metavar="DIR", help="directory to write")
    add("--per", type=one_of(*FEATURES_PER), default="clip", metavar="NAME",
        help=f"{', '.join(FEATURES_PER)} (default: %(default)s)")
    add("--stride", type=number(int, 1, words="1 (every frame) or more"), default=1, metavar="N",
        help="with --per stream: stream every Nth frame (default: %(default)s)")
    add("--force", action="store_true", help="with --per stream: also stream a model trained with the two-way shift")
    add("--test_segments", type=opts.FRAMES, metavar="T", help="frames per clip (default: as trained)")
    group = parser.add_argument_group("data")
    group.add_argument("--dataset", default=None, metavar="NAME", help="in place of VIDEO: the validation list of this data"
                       " set, or --test_list with its videos")
    opts.add_test_data_flags(group)
    group = parser.add_argument_group("run")
    cli.add_workers_flag(group, default=2, what="processes that read clips; 0 reads in the main process", minimum=0)
    cli.add_device_flag(group)
    cli.add_part_flag(group)
    opts.add_override_flags(parser.add_argument_group("model", opts.OVERRIDES_TITLE))
    return parser


if __name__ == "__main__":
    cli.check_usage(build_parser().parse_args)  # torch, which the imports below need, takes seconds

from typing import Sequence

import torch

from ops.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ops.checkpoints.model_zoo import find_weights
from ops.common.device import pick_device
from ops.common.errors import UserError, shown
from ops.common.words import counted
from ops.data.test_protocol import TestProtocol
from ops.evaluation.videos import expand
from ops.streaming.features import (
    FRAME,
    INDEX,
    STREAM,
    ClipFeatures,
    Extractor,
    Source,
    StreamFeatures,
    file_sources,
    listed_sources,
    write_features,
)
from ops.streaming.online import OnlineTSM
from tools.shared.listed_videos import open_listed


def main() -> int:
    parser = build_parser()
    args = parser.parse_args()
    if bool(args.video) == bool(args.dataset):
        raise UserError("name videos, or --dataset with a list of them: one of the two")
    if args.per != STREAM:
        cli.warn_unused(parser, args, "it needs --per stream", "stride", "force")
    found, sources = open_sources(args)
    extractor = make_extractor(args, found, pick_device(args.device))
    settings = {"weights": str(args.weights), "per": args.per, "spec": found.spec.to_dict(),
                **({"stride": args.stride} if args.per == STREAM else {})}
    done = failed = 0
    for name, problem in write_features(extractor, sources, args.out, settings=settings, part=args.part,
                                        workers=args.workers):
        done, failed = done + (problem is None), failed + (problem is not None)
        if problem is not None:
            print(shown(f"failed: {name}: {problem.for_command_line()}"), file=sys.stderr)
    print(f"{args.out}: features of {counted(done, 'video')} written now; {INDEX} names all files")
    return 2 if failed else 0


def open_sources(args: argparse.Namespace) -> tuple[Checkpoint, Sequence[Source]]:
    """The checkpoint, and the videos."""
    if args.dataset:
        listed = open_listed(args, TestProtocol())
        return listed.found, listed_sources(listed.videos)
    found = load_checkpoint(find_weights(args.weights), **opts.overrides(args), num_segments=args.test_segments)
    if found.spec.modality == "Flow":
        raise UserError("a model of optical flow has no features of videos, which hold RGB frames: name a data set of flow"
                        " directories with --dataset")
    return found, file_sources([path for name in args.video for path in find_videos(name)])


def find_videos(name: str) -> list[Path]:
    """The videos that an argument stands for."""
    try:
        return expand(name)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def make_extractor(args: argparse.Namespace, found: Checkpoint, device: torch.device) -> Extractor:
    """The network on its device. UserError for one that cannot stream."""
    model = found.build()
    if args.per == STREAM:
        return StreamFeatures(OnlineTSM(model, args.force).to(device), args.stride)
    return ClipFeatures(model.to(device), per_frame=args.per == FRAME)


if __name__ == "__main__":
    cli.run(main)
