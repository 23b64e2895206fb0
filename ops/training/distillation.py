"""Knowledge distillation (arXiv:1503.02531): a network also learns the answers of others, its teachers, to its clips."""
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ops.checkpoints.checkpoint import UNKNOWN, load_checkpoint
from ops.checkpoints.matching import check_same_classes
from ops.checkpoints.store_name import NAME_FORM
from ops.checkpoints.tensors import IMAGE
from ops.common.errors import UserError
from ops.common.files import file_hash
from ops.common.words import counted
from ops.data.tsn_dataset import Batch
from ops.dataset_config import DatasetPaths
from ops.evaluation.clip_runtime import mean_over_segments
from ops.evaluation.multi_label import probabilities_of
from ops.models import TSN
from ops.training.execution import Execution

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """A trained network in evaluation mode, whose weights do not learn. path, sha256: of its file."""
    path: Path
    sha256: str
    network: TSN

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def probabilities(self, inputs: Tensor, temperature: float) -> Tensor:
        """(N, num_class) float32, from its own form of input, (N, T*C, H, W) normalized."""
        scores = mean_over_segments(self.network(inputs)).float()
        if not self.network.before_softmax:  # its scores are probabilities, whose logarithms are logits
            scores = scores.clamp_min(torch.finfo(torch.float32).tiny).log()
        return probabilities_of(scores / temperature, self.network.spec.multi_label)


@dataclass(frozen=True)
class Distillation:
    """How much a student learns from its teachers.

    weight: w, the share of the teachers in the loss, 0 to 1. temperature: t, by which all scores are divided. student: whose
    clips they are.
    """
    teachers: Sequence[Teacher]
    student: TSN
    weight: float = 0.5
    temperature: float = 4.0

    @property
    def views_for(self) -> list[TSN]:
        """The networks, one for each form of clip other than the student's, for which the batches need views, in order."""
        forms = {_form(self.student): self.student}
        for teacher in self.teachers:
            forms.setdefault(_form(teacher.network), teacher.network)
        return list(forms.values())[1:]

    def inputs(self, batch: Batch) -> list[Tensor]:
        """What each teacher sees of a readable batch: its input on its device, normalized."""
        assert batch.clips is not None
        clips = dict(zip(map(_form, (self.student, *self.views_for)), (batch.clips, *batch.views)))
        return [teacher.network.preprocessing.apply(clips[_form(teacher.network)], device=teacher.device)
                for teacher in self.teachers]

    @torch.no_grad()
    def answers(self, inputs: Sequence[Tensor]) -> Tensor:
        """(N, num_class) float32: the mean of the teachers' probabilities at the temperature. inputs: one per teacher."""
        found = [teacher.probabilities(seen, self.temperature) for teacher, seen in zip(self.teachers, inputs)]
        return torch.stack(found).mean(dim=0)

    def loss(self, output: Tensor, answers: Tensor) -> Tensor:
        """t^2 KL(answers || student at temperature t), mean over clips, or over frames under the identity consensus.

        output: the student's scores, (N, num_class) or (N, T, num_class). The factor keeps the size of the gradient
        independent of the temperature. Of a multi-label network, it is the mean over the classes of the KL of each.
        """
        if output.dim() == 3:
            answers = answers.repeat_interleave(output.shape[1], dim=0)
            output = output.flatten(0, 1)
        if self.student.spec.multi_label:
            least = F.binary_cross_entropy(answers, answers)  # that of a student with the same answers
            return self.temperature ** 2 * (F.binary_cross_entropy_with_logits(output.float() / self.temperature, answers)
                                            - least)
        student = (output.float() / self.temperature).log_softmax(dim=1)
        return self.temperature ** 2 * F.kl_div(student, answers, reduction="batchmean")

    def combined(self, loss: Tensor, distilled: Tensor) -> Tensor:
        """(1 - w) loss + w distilled. loss: of the labels."""
        return (1 - self.weight) * loss + self.weight * distilled


# ---- building -------------------------------------------------------------------------------------------------

def load_distillation(files: Sequence[Path], *, student: TSN, data: DatasetPaths, device: torch.device,
                      execution: Execution, weight: float, temperature: float) -> Optional[Distillation]:
    """The checkpoints that the option `teacher` names; None if there are none.

    UserError for a file that is no checkpoint that can be scored, or has other classes or another modality, and for two
    files with the same content.
    """
    teachers = [_load(file, student=student, data=data) for file in files]
    known: dict[str, Path] = {}
    for teacher in teachers:
        if teacher.sha256 in known:
            raise UserError(f"teacher {teacher.path} has the same content as {known[teacher.sha256]}: name it once",
                            "teacher")
        known[teacher.sha256] = teacher.path
    for teacher in teachers:
        teacher.network.to(device)
        execution.prepare(teacher.network)
        spec = teacher.network.spec
        log.info("teacher %s: %s, %s of %d pixels", teacher.path, spec.arch, counted(spec.num_segments, "segment"),
                 spec.input_size)
    return Distillation(teachers, student, weight, temperature) if teachers else None


def _load(path: Path, *, student: TSN, data: DatasetPaths) -> Teacher:
    found = load_checkpoint(path)
    if found.source == UNKNOWN and found.kind != IMAGE:  # for which `found.spec` has the right remedy
        raise UserError(f"teacher {path}: nothing shows which network it is: it has neither metadata nor a published name"
                        f" ({NAME_FORM}): rename it in that form", "teacher")
    if found.spec.modality != student.spec.modality:
        raise UserError(f"teacher {path} takes {found.spec.modality}, and this run trains on {student.spec.modality}: choose"
                        f" a teacher that was trained on {student.spec.modality}", "teacher")
    check_same_classes(found, data)
    return Teacher(path, file_hash(path), found.build().requires_grad_(False))


def _form(network: TSN) -> tuple:
    """What the uint8 clips for a network depend on."""
    spec = network.spec
    return spec.num_segments, spec.segment_length, spec.input_size, network.preprocessing.color


# ---- checkpoints ----------------------------------------------------------------------------------------------

ENTRY = "distillation"  # of a training checkpoint


def describe_distillation(distillation: Optional[Distillation]) -> dict[str, Any]:
    """What a training checkpoint stores of it: {} without teachers."""
    if distillation is None:
        return {}
    teachers = {teacher.sha256: str(teacher.path) for teacher in distillation.teachers}
    return {ENTRY: {"teachers": teachers, "weight": distillation.weight, "temperature": distillation.temperature}}


def check_same_distillation(content: Mapping[str, Any], distillation: Optional[Distillation], path: Path) -> None:
    """UserError if a run that resumes from `content`, the checkpoint at `path`, learned from other teachers, or otherwise.

    A teacher is known by what its file holds: the file may have moved. A published checkpoint is not compared.
    """
    before, now = content.get(ENTRY) or {}, describe_distillation(distillation).get(ENTRY, {})
    if not content.get("train") or not isinstance(before, Mapping):
        return
    theirs, ours = before.get("teachers") or {}, now.get("teachers", {})
    if sorted(theirs) != sorted(ours):  # in any order: their answers are averaged
        changed = " (the file has changed)" if sorted(theirs.values()) == sorted(ours.values()) else ""
        raise UserError(f"resume {path}: teacher was {_named(theirs)}, is {_named(ours)}{changed}: go on with the"
                        " teacher of before, or start a new run with tune_from", "resume", "teacher", "tune_from")
    for name in ("weight", "temperature"):
        if before.get(name) != now.get(name):
            raise UserError(f"resume {path}: distill_{name} was {before.get(name)}, is {now.get(name)}: go on with the"
                            " value of before, or start a new run with tune_from", "resume", f"distill_{name}", "tune_from")


def _named(teachers: Mapping[str, str]) -> str:
    return ",".join(map(str, teachers.values())) or "not given"
