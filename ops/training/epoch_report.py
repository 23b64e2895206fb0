"""What an epoch was like, as a row of log.csv and as a line for the reader."""
import math
from typing import Any, Mapping, Optional

import torch

from ops.common import distributed
from ops.common.device import peak_memory
from ops.common.progress import duration
from ops.evaluation.metrics import Predictions
from ops.evaluation.multi_label import MultiLabelPredictions
from ops.training.state import EpochSums


def epoch_row(epoch: int, sums: EpochSums, *, rate: float, scores: Optional[Predictions], seconds_left: Optional[float],
              device: torch.device, distilled: bool = False) -> dict[str, Any]:
    """The columns of `ops.training.run_log`. Every process must call it.

    rate: learning rate. scores: of the validation, if there was one. seconds_left: of the run. distilled: whether it has
    teachers. Seconds are means per step of this process; clips_per_second counts those of all processes; the memory is that
    of the process with the most.
    """
    row = {"epoch": epoch, "lr": rate, "train_loss": sums.mean("loss"), "train_top1": sums.mean("top1"),
           "train_top5": sums.mean("top5"), "data_seconds": sums.mean("data_seconds"),
           "step_seconds": sums.mean("step_seconds"), "clips_per_second": sums.clips / max(sums.step_seconds, 1e-9),
           "seconds_left": seconds_left, "grad_norm": sums.mean("grad_norm")}
    if distilled:
        row["train_distill_loss"] = sums.mean("distill_loss")
    memory = [peak for peak in distributed.gather(peak_memory(device)) if peak is not None]
    if memory:
        row["peak_memory_mb"] = max(memory) / 1e6
    if scores:
        row |= {"val_loss": scores.loss, "val_top1": scores.top1, "val_top5": scores.top5}
    if isinstance(scores, MultiLabelPredictions) and math.isfinite(scores.mean_ap):
        row["val_map"] = scores.mean_ap
    return row


def epoch_line(row: Mapping[str, Any]) -> str:
    """The row as one line."""
    distilled = f" (distilled {row['train_distill_loss']:.4f})" if "train_distill_loss" in row else ""
    parts = [f"loss {row['train_loss']:.4f}{distilled}, prec@1 {row['train_top1']:.2f}, prec@5 {row['train_top5']:.2f}"]
    if "val_loss" in row:
        mean_ap = f", mAP {row['val_map']:.2f}" if "val_map" in row else ""
        parts.append(f"validation loss {row['val_loss']:.4f}{mean_ap}, prec@1 {row['val_top1']:.2f},"
                     f" prec@5 {row['val_top5']:.2f}")
    parts += [f"lr {row['lr']:.5g}, gradient norm {row['grad_norm']:.3g}",
              f"{row['clips_per_second']:.4g} clips per second, step {row['step_seconds']:.3f}s with data"
              f" {row['data_seconds']:.3f}s"]
    if "peak_memory_mb" in row:
        parts.append(f"peak memory {row['peak_memory_mb'] / 1e3:.2f} GB")
    parts.append(f"{duration(row['seconds_left'] or 0)} left")
    return f"epoch {row['epoch']} done: {'; '.join(parts)}"
