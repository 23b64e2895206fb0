"""The quickstart: data, training, testing and streaming, one ordinary command per step.

    python tools/quickstart.py [--out runs/quickstart] [--epochs 5] [--videos 1800] [--device auto] [--fresh]

Act 1 makes the data, trains TSN and TSM with one recipe, tests both and writes a report. Act 2 trains a TSM that looks
only into the past, converts it to take one frame at a time, and lets it follow a long video as it would a camera.
A step whose command has already run is not repeated, so a second run is quick and an interrupted run resumes.
"""
import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Iterable, Optional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from ops.common.choices import MOST
from ops.common.cli import Parser, add_device_flag, add_workers_flag, number, run
from ops.common.errors import UserError
from ops.common.files import atomic_write
from tools.showcase.steps import Steps, user_errors

SEGMENTS = 4
# One recipe for all models. The gradient's norm is limited to 1, because from random weights this learning rate makes
# the classifier diverge at once.
RECIPE = (f"--arch resnet18 --num_segments {SEGMENTS} --pretrain none --input_size 48 --batch-size 16 --lr 0.02"
          " --lr_type cos --wd 5e-4 --gd 1 --dropout 0.2 --npb --eval-freq 1 --seed 1 --channels_last")
# A stream asks for the class at every frame; with the identity consensus, every frame is trained to predict it. Measured
# at 1.2 frames per second: 95% of 128 streamed gestures recognised, against 62% to 78% with avg, as the others use.
MODELS = {"tsn": "", "tsm": "--shift", "uni": "--shift --shift_direction unidirectional --consensus_type identity"}
NAMES = {"tsn": "resnet18_avg", "tsm": "resnet18_shift8_blockres_avg", "uni": "resnet18_shift8_blockres_uni_identity"}
CLIP_MODELS = ("tsn", "tsm")  # of act 1
# Frames per second of the stream. A median training video has 40 frames at 12 per second, so the frames of its clip are
# 10 apart. Smaller gaps were rare in training, and measured worse.
FRAME_RATE = 1.2


def main() -> None:
    args = build_parser().parse_args()
    os.chdir(ROOT)  # where the printed commands work as they are
    out, data = Path(args.out), Path(args.root_dataset)
    with user_errors(out):
        if args.fresh:
            delete_results(out)
        out.mkdir(parents=True, exist_ok=True)
    steps = Steps(out / "steps.json")
    run_clips(steps, out, data, args)
    run_stream(steps, out, data, args)


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", default="runs/quickstart", help="directory of the results, from the repository (default: %(default)s)")
    add("--root_dataset", default="data", help="directory of the data set, from the repository (default: %(default)s)")
    add("--videos", type=number(int, 8, 1_000_000), default=1800, metavar="N",
        help="training and validation videos to make (default: %(default)s)")
    add("--epochs", type=number(int, 1), default=5, metavar="N", help="of each training (default: %(default)s)")
    add("--gestures", type=number(int, 1, MOST), default=24, metavar="N",
        help="gestures in the long video (default: %(default)s)")
    add_workers_flag(parser, default=2, what="processes that load data; 0: the main process", minimum=0)
    add_device_flag(parser)
    add("--fresh", action="store_true", help="delete the earlier results in --out and train again")
    return parser


def delete_results(out: Path) -> None:
    """Delete what earlier quickstarts left in this directory, and nothing else. UserError if no quickstart ran there."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / "steps.json").is_file():
        raise UserError(f"--fresh: {out} has files but no steps.json, so a quickstart did not write them: choose another"
                        " --out, or leave --fresh out")
    runs = [f"{kind}/{run_name(model, '*')}" for kind in ("checkpoint", "log") for model in MODELS]
    files = ["results.json", "report.html", "annotated.mp4", "demo_online.pth.tar"]
    # steps.json goes last, so that an interrupted deletion can be repeated.
    for pattern in (*runs, *MODELS, "stream", *files, "steps.json"):
        for path in list(out.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def run_name(model: str, epochs: object) -> str:
    return f"TSM_gestures_RGB_{NAMES[model]}_segment{SEGMENTS}_e{epochs}_none_cos"


def checkpoint(out: Path, model: str, epochs: int) -> Path:
    return out / "checkpoint" / run_name(model, epochs) / "ckpt.pth.tar"


# ---- steps of both acts --------------------------------------------------------------------------------------

def make_data(steps: Steps, data: Path, videos: int) -> None:
    """Videos, frames and lists, as for any data set in the layout of Something-Something-V2."""
    directory = data / "gestures"
    frames, val_list = directory / "frames", directory / "val_videofolder.txt"
    if not val_list.exists():
        steps.forget("videos", "frames", "lists")
    steps.run("videos", ["tools/make_gestures.py", "--out", directory, "--videos", videos], directory / "validation.json")
    steps.run("frames", ["tools/vid2img_sthv2.py", directory / "videos", frames, "--height", 0], frames, after=["videos"])
    steps.run("lists", ["tools/gen_label_sthv2.py", "--labels", directory, "--frames", frames, "--out", directory],
              val_list, after=["frames"])


def train(steps: Steps, out: Path, data: Path, args: argparse.Namespace, *, model: str,
          start: Optional[str] = None) -> None:
    """Train a model; an interrupted training is resumed. start: the model whose weights it starts from."""
    file = checkpoint(out, model, args.epochs)
    tune = ["--tune_from", checkpoint(out, start, args.epochs)] if start else []
    steps.run(f"train {model}", [
        "main.py", "gestures", "RGB", *MODELS[model].split(), *tune, *RECIPE.split(), "--epochs", args.epochs, "-j",
        args.workers, "--device", args.device, "--root_dataset", data, "--root_log", out / "log", "--root_model",
        out / "checkpoint"], file, after=[f"train {start}" if start else "lists"], partial=file)


def test(steps: Steps, out: Path, data: Path, args: argparse.Namespace, *, model: str) -> None:
    steps.run(f"test {model}", [
        "test_models.py", "gestures", "--weights", checkpoint(out, model, args.epochs), "--test_segments", SEGMENTS,
        "--batch_size", 16, "-j", args.workers, "--device", args.device, "--root_dataset", data, "--out", out / model],
        out / model / "results.json", after=[f"train {model}"])


# ---- the two acts --------------------------------------------------------------------------------------------

def run_clips(steps: Steps, out: Path, data: Path, args: argparse.Namespace) -> None:
    """Act 1: TSN and TSM, from nothing to a report."""
    make_data(steps, data, args.videos)
    for model in CLIP_MODELS:
        train(steps, out, data, args, model=model)
    for model in CLIP_MODELS:
        test(steps, out, data, args, model=model)
    steps.run("twins", ["tools/showcase/twins.py", "--runs", out, "--root_dataset", data, "--device", args.device],
              out / CLIP_MODELS[0] / "twins.npy", after=[f"test {model}" for model in CLIP_MODELS])
    new = steps.run("report", ["tools/showcase/report.py", "--runs", out, "--root_dataset", data],
                    out / "report.html", after=["twins"])
    if new:  # otherwise the results already include act 2
        write_results(steps, out, CLIP_MODELS)
    tsn, tsm = (top1(out, model) for model in CLIP_MODELS)
    print(f"\nTSM {tsm:.1f}%, TSN {tsn:.1f}% top-1 on 8 gestures in time-reversed pairs\nOpen {out / 'report.html'} in a"
          " browser. Act 2 adds the streaming model to it.\n", flush=True)


def run_stream(steps: Steps, out: Path, data: Path, args: argparse.Namespace) -> None:
    """Act 2: a unidirectional TSM is trained, converted and run on a long video, and added to the report and results."""
    train(steps, out, data, args, model="uni", start="tsm")
    test(steps, out, data, args, model="uni")
    online, directory = out / "demo_online.pth.tar", out / "stream"
    steps.run("convert", ["tools/convert_to_online.py", checkpoint(out, "uni", args.epochs), "-o", online,
                          "--frame_rate", FRAME_RATE], online, after=["train uni"])
    steps.run("long video", ["tools/showcase/stream.py", "--out", directory, "--gestures", args.gestures],
              directory / "truth.json")
    steps.run("demo", ["online_demo/main.py", directory / "gestures.mp4", "--weights", online, "--device", args.device,
                       "--smooth", "none", "--headless", "--output", out / "annotated.mp4", "--json"],
              out / "annotated.mp4", after=["convert", "long video"], stdout=directory / "answers.jsonl")
    steps.run("report with stream", ["tools/showcase/report.py", "--runs", out, "--root_dataset", data, "--stream"],
              directory / "score.json", after=["report", "test uni", "demo"])
    score = json.loads((directory / "score.json").read_text())
    seconds = write_results(steps, out, MODELS, streaming_top1=score["top1"], streaming_frames=score["frames"])
    print(f"\nStreaming: {score['top1']:.1f}% of {len(score['known'])} gestures recognised by the time they ended\n"
          f"{out / 'report.html'}\n{out / 'annotated.mp4'}\n{out / 'results.json'} ({seconds:.0f} s of work)\n"
          f"To watch it in a window: python online_demo/main.py {directory / 'gestures.mp4'} --weights {online}")


def top1(out: Path, model: str) -> float:
    """Percent of the validation videos."""
    return float(json.loads((out / model / "results.json").read_text())["top1"])


def write_results(steps: Steps, out: Path, models: Iterable[str], **scores: float) -> float:
    """Write results.json: each model's top-1 and these scores, percent, and the steps. Returns the seconds of all steps."""
    accuracies = {f"{model}_top1": top1(out, model) for model in models}
    with atomic_write(out / "results.json") as f:
        json.dump({**accuracies, **scores, "seconds": round(steps.seconds, 1), "steps": steps.records}, f, indent=1)
    return steps.seconds


if __name__ == "__main__":
    run(main)
