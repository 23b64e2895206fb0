"""One small run of main.py that several test files share: a small somethingv2, ResNet-18, 3 frames, 3 epochs."""
import csv

import torch

NAME = "TSM_somethingv2_RGB_resnet18_shift8_blockres_avg_segment3_e3_none"
SMALL = ["--arch", "resnet18", "--num_segments", 3, "--pretrain", "none", "--input_size", 32, "-b", 4, "--epochs", 3,
         "--eval-freq", 2, "--lr", 0.01, "--wd", 1e-3, "--gd", 20, "--shift", "--device", "cpu"]
SECONDS = ("data_seconds", "step_seconds", "clips_per_second", "seconds_left", "peak_memory_mb")  # time and memory


def flags(data, out, *more):
    """main.py's arguments for the run: its data set is under `data`, its log and model under `out`."""
    return ["somethingv2", "RGB", *SMALL, "--root_dataset", data, "--root_log", out / "log", "--root_model",
            out / "model", "-j", 0, *more]


def rows(out):
    """The rows of log.csv without the columns of time and memory."""
    with open(out / "log" / NAME / "log.csv", newline="") as f:
        return [{k: v for k, v in row.items() if k not in SECONDS} for row in csv.DictReader(f)]


def weights(out):
    """The weights of ckpt.pth.tar."""
    return torch.load(out / "model" / NAME / "ckpt.pth.tar", weights_only=True)["state_dict"]
