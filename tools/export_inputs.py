"""Write a data set's test clips as plain files, for a device that runs an exported network without Python.

    python tools/export_inputs.py somethingv2 --weights CKPT --out INPUTS
    python tools/score_outputs.py OUTPUTS --inputs INPUTS          # once the device has computed the scores

INPUTS/frames/frames{i}.bin holds one clip, float32, little-endian, [1, T*3, H, W], normalized; INPUTS/label/label{i}.bin
its label, int32; INPUTS/inputs.json says what they are. The clips are those of test_models.py with the same flags. After an
interruption, run it again to resume.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import opts
from ops.common import cli
from ops.common.cli import Parser


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="as for test_models.py")
    add = parser.add_argument_group("files").add_argument
    add("--weights", required=True, metavar="FILE", help="the checkpoint that was exported, or the name of a released one")
    add("--out", type=Path, required=True, metavar="DIR", help="directory to write")
    opts.add_test_data_flags(parser.add_argument_group("data"))
    group = parser.add_argument_group("protocol")
    opts.add_view_flags(group)
    group.add_argument("--test_segments", type=opts.FRAMES, metavar="T", help="frames per clip (default: as trained)")
    group = parser.add_argument_group("run")
    cli.add_workers_flag(group, default=2, what="processes that read videos; 0 reads in the main process", minimum=0)
    cli.add_part_flag(group)
    opts.add_override_flags(parser.add_argument_group("model", opts.OVERRIDES_TITLE))
    return parser


if __name__ == "__main__":
    cli.check_usage(build_parser().parse_args)  # torch, which the imports below need, takes seconds

from ops.common.errors import UserError
from ops.common.words import counted
from ops.evaluation.device_files import make_record, write_inputs
from tools.shared.listed_videos import open_listed


def main() -> None:
    args = build_parser().parse_args()
    protocol = opts.chosen_protocol(args)
    listed = open_listed(args, protocol)
    if listed.data.multi_label:
        raise UserError(f"{listed.data.name} is multi-label, and a label file holds one class: score it with"
                        " test_models.py")
    if any(protocol.mirrored) and listed.mirror is None:
        raise UserError(f"--test_crops {protocol.crops} averages mirrored crops, which needs class names to know which"
                        " labels swap: use --test_crops 5")
    size = protocol.size(listed.preprocessing)
    record = make_record(listed.videos, shape=(1, listed.found.spec.clip_channels, size, size), mirrored=protocol.mirrored,
                         mirror_labels=listed.mirror, source={
                             "dataset": listed.data.name, "list": str(listed.data.val_list), "weights": str(args.weights),
                             "preprocessing": listed.preprocessing.to_dict(), "protocol": protocol.words})
    written = write_inputs(listed.videos, args.out, record, preprocessing=listed.preprocessing, part=args.part,
                           workers=args.workers)
    print(f"{args.out}: {counted(len(listed.videos), 'video')} x {counted(protocol.views, 'view')} of {record['shape']},"
          f" {counted(written, 'file')} written now")
    print(f"python tools/score_outputs.py OUTPUTS --inputs {args.out}")


if __name__ == "__main__":
    cli.run(main)
