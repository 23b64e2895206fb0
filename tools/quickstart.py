"""The quickstart's steps, each an ordinary command: make data, train TSN and TSM alike, test both, report.

    python tools/quickstart.py [--out runs/quickstart] [--epochs 5] [--videos 1800] [--device auto] [--fresh]

A step that was done with the same command is not done again, so a second run is quick and an interrupted one goes on.
"""
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Sequence

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from ops.cli import Parser, run  # noqa: E402
from ops.errors import UserError  # noqa: E402
from ops.runtime import atomic_write  # noqa: E402

SEGMENTS = 4
# The same for both models; the only difference is --shift.
# From random weights the fast classifier would blow up at once: the gradient's norm is held at 1.
RECIPE = (f"--arch resnet18 --num_segments {SEGMENTS} --pretrain none --input_size 48 --batch-size 16 --lr 0.02"
          " --lr_type cos --wd 5e-4 --gd 1 --dropout 0.2 --npb --eval-freq 1 --seed 1 --channels_last")
MODELS = {"tsn": [], "tsm": ["--shift"]}
NAMES = {"tsn": "resnet18", "tsm": "resnet18_shift8_blockres"}


def main() -> None:
    args = parse()
    out, data = Path(args.out), Path(args.root_dataset)
    if args.fresh:
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    steps = Steps(out / "steps.json")
    make_data(steps, data, args.videos)
    for model, flags in MODELS.items():
        train(steps, out, data, model, flags, args)
    for model in MODELS:
        test(steps, out, data, model, args)
    steps.run("report", ["tools/quickstart_report.py", "--runs", out, "--root_dataset", data])
    results = {f"{model}_top1": json.loads((out / model / "results.json").read_text())["top1"] for model in MODELS}
    results["seconds"] = round(steps.seconds, 1)
    with atomic_write(out / "results.json") as f:
        json.dump({**results, "steps": steps.done}, f, indent=1)
    print(f"\nTSM {results['tsm_top1']:.1f}%, TSN {results['tsn_top1']:.1f}% top-1 on 8 gestures in time-reversed pairs"
          f" ({results['seconds']:.0f} s of work)\n{out / 'results.json'}\n{out / 'report.html'}: open it in a browser")


def parse() -> Any:
    parser = Parser(description="The quickstart's steps.")
    parser.add_argument("--out", default="runs/quickstart", help="folder of the results")
    parser.add_argument("--root_dataset", default="data", help="folder of the data set")
    parser.add_argument("--videos", type=int, default=1800, help="training and validation videos to make")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("-j", "--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results and train again")
    return parser.parse_args()


class Steps:
    """Commands that were done, by name: what was typed, and the seconds it took; kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    @property
    def seconds(self) -> float:
        return sum(step["seconds"] for step in self.done.values())

    def run(self, name: str, command: Sequence[Any]) -> None:
        """Run a program of this repository, unless the same command was done; UserError if it fails."""
        words = [str(word) for word in command]
        shown = shlex.join(["python", *words])
        if self.done.get(name, {}).get("command") == shown:
            print(f"[{name}] done before: {shown}", flush=True)
            return
        print(f"[{name}] {shown}", flush=True)
        begin = time.perf_counter()
        status = subprocess.run([sys.executable, *words], cwd=ROOT).returncode
        if status:
            raise UserError(f"step {name} ended with status {status}: mend that and start again; it goes on from there")
        self.done[name] = {"command": shown, "seconds": round(time.perf_counter() - begin, 1)}
        with atomic_write(self.path) as f:
            json.dump(self.done, f, indent=1)


def make_data(steps: Steps, data: Path, videos: int) -> None:
    """The steps for any data set in Something-Something-V2's form."""
    folder = data / "gestures"
    if not (folder / "val_videofolder.txt").exists():
        for name in ("videos", "frames", "lists"):
            steps.done.pop(name, None)
    steps.run("videos", ["tools/make_gestures.py", "--out", folder, "--videos", videos])
    steps.run("frames", ["tools/vid2img_sthv2.py", folder / "videos", folder / "frames", "--height", 0])
    steps.run("lists", ["tools/gen_label_sthv2.py", "--labels", folder, "--frames", folder / "frames", "--out", folder])


def checkpoint(out: Path, model: str, epochs: int) -> Path:
    return out / "checkpoint" / f"TSM_gestures_RGB_{NAMES[model]}_avg_segment{SEGMENTS}_e{epochs}_none_cos" / "ckpt.pth.tar"


def train(steps: Steps, out: Path, data: Path, model: str, flags: Sequence[str], args: Any) -> None:
    """One training run, continued if an earlier one was interrupted."""
    name = f"train {model}"
    command = ["main.py", "gestures", "RGB", *flags, *RECIPE.split(), "--epochs", args.epochs, "-j", args.workers,
               "--device", args.device, "--root_dataset", data, "--root_log", out / "log", "--root_model",
               out / "checkpoint"]
    file = checkpoint(out, model, args.epochs)
    if name not in steps.done and file.exists():
        command += ["--resume", file]
    steps.run(name, command)


def test(steps: Steps, out: Path, data: Path, model: str, args: Any) -> None:
    steps.run(f"test {model}", [
        "test_models.py", "gestures", "--weights", checkpoint(out, model, args.epochs), "--test_segments", SEGMENTS,
        "--batch_size", 16, "-j", args.workers, "--device", args.device, "--root_dataset", data, "--out", out / model])


if __name__ == "__main__":
    run(main)
