"""Draw what the network sees: a training batch after crop, mirroring, augmentation and mixing, with its labels.

    python tools/show_batch.py somethingv2 RGB --augment randaug --mixup 0.2

One row per clip, its frames from left to right; a .gif shows the clips as movies. All flags of main.py apply except
--batch-size, which --clips replaces.
"""
import argparse
import logging
import sys
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import opts
from ops.common.cli import Parser, check_usage, image_file, number, run

log = logging.getLogger("show_batch")
DIRECTORY = Path("runs", "show_batch")  # of the images, unless told otherwise


def parse() -> tuple[argparse.Namespace, argparse.Namespace]:
    """(this program's flags, main.py's flags)"""
    parser = Parser(prog="show_batch.py", description="Draw a training batch as the network sees it.",
                    epilog="All other arguments are main.py's: DATASET MODALITY [flags].", allow_abbrev=False)
    parser.add_argument("--out", type=image_file(".png", ".gif"), default=None, metavar="FILE",
                        help="the image: .png, or .gif for moving clips (default: runs/show_batch/DATASET_MODALITY.png)")
    parser.add_argument("--clips", type=number(int, 1), default=8, metavar="N",
                        help="number of clips (default: %(default)s)")
    parser.add_argument("--epoch", type=number(int, 0), default=0, metavar="N",
                        help="draw the first batch of this epoch (default: %(default)s)")
    own, rest = parser.parse_known_args()
    args = opts.parse_train([*rest, "--workers", "0"], program=parser.prog)
    if args.batch_size != opts.train_parser().get_default("batch_size"):
        log.warning("warning: --batch-size has no effect: --clips determines the number of clips")
    own.out = own.out or DIRECTORY / f"{args.dataset}_{args.modality}.png"
    return own, args


if __name__ == "__main__":
    check_usage(parse)  # torch, which the imports below need, takes seconds

from PIL import Image

from ops.common.device import seed_everything
from ops.common.errors import UserError
from ops.common.files import atomic_write, check_not_an_input
from ops.common.words import counted
from ops.data.augment import make_mix
from ops.data.batch_pictures import BatchPictures, grid
from ops.data.loader import make_loader, set_epoch
from ops.dataset_config import resolve_dataset
from ops.models import TSN
from ops.spec import ModelSpec
from ops.training.train_set import training_set

MILLISECONDS = 250  # per frame of the .gif


def main() -> Optional[int]:
    own, args = parse()
    data = resolve_dataset(args.dataset, args.modality, args.root_dataset, train_list=args.train_list,
                           val_list=args.val_list, root_path=args.root_path, dataset_file=args.dataset_file,
                           needed=["train_list"])
    settings = ModelSpec(data.num_class, args.num_segments, args.modality, args.arch, input_size=args.input_size,
                         multi_label=data.multi_label)
    model = TSN.from_spec(settings)
    videos = training_set(model, data, flip=args.flip, augment=args.augment, random_erasing=args.random_erasing,
                          dense_sample=args.dense_sample, skip_bad=args.skip_bad, seed=args.seed,
                          data_format=args.data_format)
    check_not_an_input(own.out, data.inputs(), "out")
    loader = make_loader(videos, min(own.clips, len(videos)), workers=args.loaders, train=True, seed=args.seed)
    set_epoch(loader, own.epoch)
    batch = next(iter(loader))
    if batch.clips is None:
        raise UserError(f"no video of the batch could be read; the first one: {batch.bad[0].reason}")
    seed_everything(args.seed)
    clips, labels = model.preprocessing.apply(batch.clips), batch.labels
    mix = make_mix(data.num_class, args.mixup, args.cutmix)
    if mix is not None:
        clips, labels = mix(clips, batch.labels)
    pictures = BatchPictures(model.preprocessing, model.num_segments, model.modality, data.class_names)
    rows = [pictures.images(clip) for clip in clips]
    texts = [pictures.text(label) for label in labels]
    write_image(own.out, rows, texts)
    size = f"{rows[0][0].width}x{rows[0][0].height}"
    print(f"{own.out}: {counted(len(rows), 'clip')} of {counted(len(rows[0]), 'image')} of {size}")
    return None


def write_image(path: Path, rows: list[list[Image.Image]], texts: list[str]) -> None:
    """Write the .png or .gif, whole or not at all."""
    moving = path.suffix.lower() == ".gif"
    try:
        with atomic_write(path, "wb") as f:
            if moving:
                frames = [grid([[row[t]] for row in rows], texts, per_line=4) for t in range(len(rows[0]))]
                frames[0].save(f, "GIF", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0)
            else:
                grid(rows, texts, per_line=1).save(f, "PNG")
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise UserError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None


if __name__ == "__main__":
    run(main)
