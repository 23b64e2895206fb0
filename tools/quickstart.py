"""The quickstart's steps, each an ordinary command: make data, train TSN and TSM alike, test both, report; then the
same network looking only back, converted to take one frame at a time, follows a long video as it would a camera.

    python tools/quickstart.py [--out runs/quickstart] [--epochs 5] [--videos 1800] [--device auto] [--fresh]

A step that was done with the same command is not done again, so a second run is quick and an interrupted one goes on.
"""
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from ops.common.cli import Parser, run
from ops.common.errors import UserError
from ops.common.files import atomic_write
from tools.showcase.steps import Steps, writing

SEGMENTS = 4
# The same for all models.
# From random weights the fast classifier would blow up at once: the gradient's norm is held at 1.
RECIPE = (f"--arch resnet18 --num_segments {SEGMENTS} --pretrain none --input_size 48 --batch-size 16 --lr 0.02"
          " --lr_type cos --wd 5e-4 --gd 1 --dropout 0.2 --npb --eval-freq 1 --seed 1 --channels_last")
# A stream asks every frame for the class: with the identity consensus every frame is trained to tell it. Measured at 1.2
# frames per second: 95% of 128 streamed gestures known; with avg, as the others are trained, 62% to 78%.
MODELS = {"tsn": "", "tsm": "--shift", "uni": "--shift --shift_direction unidirectional --consensus_type identity"}
NAMES = {"tsn": "resnet18_avg", "tsm": "resnet18_shift8_blockres_avg", "uni": "resnet18_shift8_blockres_uni_identity"}
CLIPS = ("tsn", "tsm")  # the first act's
# Frames per second that the stream gets: a median training video has 40 frames at 12 per second, so the frames of its
# clip lie 10 apart. Closer neighbours, which training seldom showed, were measured to be worse.
FRAME_RATE = 1.2


def main() -> None:
    args = parse()
    os.chdir(ROOT)  # where the steps' commands are to be typed
    out, data = Path(args.out), Path(args.root_dataset)
    with writing(out):
        if args.fresh:
            forget_results(out)
        out.mkdir(parents=True, exist_ok=True)
    steps = Steps(out / "steps.json")
    clips(steps, out, data, args)
    stream(steps, out, data, args)


def parse() -> Any:
    parser = Parser(description="The quickstart's steps. Relative directories are the repository's.")
    parser.add_argument("--out", default="runs/quickstart", help="directory of the results")
    parser.add_argument("--root_dataset", default="data", help="directory of the data set")
    parser.add_argument("--videos", type=int, default=1800, help="training and validation videos to make")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--gestures", type=int, default=24, help="in the long video")
    parser.add_argument("-j", "--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--fresh", action="store_true", help="delete the earlier results in --out and train again")
    return parser.parse_args()


def forget_results(out: Path) -> None:
    """Delete what earlier runs left in this directory, and nothing else. UserError if no quickstart ran there."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / "steps.json").is_file():
        raise UserError(f"--fresh: {out} holds files but no steps.json, so they are no quickstart's results: choose"
                        " another --out, or leave --fresh out")
    runs = [f"{kind}/{run_name(model, '*')}" for kind in ("checkpoint", "log") for model in MODELS]
    files = ["results.json", "report.html", "annotated.mp4", "demo_online.pth.tar"]
    for pattern in (*runs, *MODELS, "stream", *files, "steps.json"):  # the last: cut off in between, it can be repeated
        for path in list(out.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def make_data(steps: Steps, data: Path, videos: int) -> None:
    """The steps for any data set in Something-Something-V2's form."""
    directory = data / "gestures"
    lists = directory / "val_videofolder.txt"
    if not lists.exists():
        steps.forget("videos", "frames", "lists")
    steps.run("videos", ["tools/make_gestures.py", "--out", directory, "--videos", videos], directory / "validation.json")
    steps.run("frames", ["tools/vid2img_sthv2.py", directory / "videos", directory / "frames", "--height", 0],
              directory / "frames", after=["videos"])
    steps.run("lists", ["tools/gen_label_sthv2.py", "--labels", directory, "--frames", directory / "frames",
                        "--out", directory],
              lists, after=["frames"])


def run_name(model: str, epochs: object) -> str:
    return f"TSM_gestures_RGB_{NAMES[model]}_segment{SEGMENTS}_e{epochs}_none_cos"


def checkpoint(out: Path, model: str, epochs: int) -> Path:
    return out / "checkpoint" / run_name(model, epochs) / "ckpt.pth.tar"


def train(steps: Steps, out: Path, data: Path, model: str, args: Any, start: Optional[str] = None) -> None:
    """One training run, continued if an earlier one was interrupted. start: the model whose weights it starts from."""
    file = checkpoint(out, model, args.epochs)
    tune = ["--tune_from", checkpoint(out, start, args.epochs)] if start else []
    steps.run(f"train {model}", [
        "main.py", "gestures", "RGB", *MODELS[model].split(), *tune, *RECIPE.split(), "--epochs", args.epochs, "-j",
        args.workers, "--device", args.device, "--root_dataset", data, "--root_log", out / "log", "--root_model",
        out / "checkpoint"], file, after=[f"train {start}" if start else "lists"], partial=file)


def test(steps: Steps, out: Path, data: Path, model: str, args: Any) -> None:
    steps.run(f"test {model}", [
        "test_models.py", "gestures", "--weights", checkpoint(out, model, args.epochs), "--test_segments", SEGMENTS,
        "--batch_size", 16, "-j", args.workers, "--device", args.device, "--root_dataset", data, "--out", out / model],
        out / model / "results.json", after=[f"train {model}"])


# ---- the two acts -------------------------------------------------------------------------------------------

def clips(steps: Steps, out: Path, data: Path, args: Any) -> None:
    """TSN and TSM, from nothing to a report."""
    make_data(steps, data, args.videos)
    for model in CLIPS:
        train(steps, out, data, model, args)
    for model in CLIPS:
        test(steps, out, data, model, args)
    new = steps.run("report", ["tools/showcase/report.py", "--runs", out, "--root_dataset", data],
                    out / "report.html", after=[f"test {model}" for model in CLIPS])
    if new:  # else the results hold more already
        write_results(steps, out, CLIPS)
    tsn, tsm = (top1(out, model) for model in CLIPS)
    print(f"\nTSM {tsm:.1f}%, TSN {tsn:.1f}% top-1 on 8 gestures in time-reversed pairs\n{out / 'report.html'}: open it"
          " in a browser; the streaming model is added to it below\n", flush=True)


def stream(steps: Steps, out: Path, data: Path, args: Any) -> None:
    """TSM looking only back: trained, converted, and before a long video; added to the report and the results."""
    train(steps, out, data, "uni", args, start="tsm")
    test(steps, out, data, "uni", args)
    online, directory = out / "demo_online.pth.tar", out / "stream"
    steps.run("convert", ["tools/convert_to_online.py", checkpoint(out, "uni", args.epochs), "-o", online,
                          "--frame_rate", FRAME_RATE], online, after=["train uni"])
    steps.run("long video", ["tools/showcase/stream.py", "--out", directory, "--gestures", args.gestures],
              directory / "truth.json")
    steps.run("demo", ["online_demo/main.py", directory / "gestures.mp4", "--weights", online, "--device", args.device,
                       "--smooth", "none", "--headless", "--output", out / "annotated.mp4", "--json"],
              out / "annotated.mp4", after=["convert", "long video"], to=directory / "answers.jsonl")
    steps.run("report with stream", ["tools/showcase/report.py", "--runs", out, "--root_dataset", data, "--stream"],
              directory / "score.json", after=["report", "test uni", "demo"])
    score = json.loads((directory / "score.json").read_text())
    seconds = write_results(steps, out, MODELS, streaming_top1=score["top1"], streaming_frames=score["frames"])
    print(f"\nStreaming: {score['top1']:.1f}% of {len(score['known'])} gestures known when they ended\n"
          f"{out / 'report.html'}\n{out / 'annotated.mp4'}\n{out / 'results.json'} ({seconds:.0f} s of work)\n"
          f"In a window: python online_demo/main.py {directory / 'gestures.mp4'} --weights {online}")


def top1(out: Path, model: str) -> float:
    """Percent, of the validation videos."""
    return float(json.loads((out / model / "results.json").read_text())["top1"])


def write_results(steps: Steps, out: Path, models: Sequence[str], **scores: float) -> float:
    """results.json: each model's top-1 and these scores, percent; the seconds of all steps, which are returned."""
    found = {f"{model}_top1": top1(out, model) for model in models}
    with atomic_write(out / "results.json") as f:
        json.dump({**found, **scores, "seconds": round(steps.seconds, 1), "steps": steps.done}, f, indent=1)
    return steps.seconds


if __name__ == "__main__":
    run(main)
