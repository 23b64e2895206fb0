"""Label files of the data sets, the csv of make_dataset, datasets.yaml: complete lists that load, or a refusal."""
import json
import shutil
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from ops.data.list_files import read_list
from ops.prepare.annotations import parse_hmdb51, parse_jester, parse_kinetics, parse_sthv1, parse_sthv2, parse_ucf101
from ops.prepare.labeled_videos import read_csv
from ops.prepare.list_writer import write_lists
from ops.prepare.user_file import read_dataset_file
from tools.fuzzing.damage import Texts, damage
from tools.fuzzing.material import set_up
from tools.fuzzing.process import Fault

CLASSES = ["Holding something", "Pushing [something], slowly", "Zooming In"]
VIDEOS = ["7", "100218", "v_Zoom_g01_c01", "abc-_DEF012_000004_000014"]
_CSV20 = {"labels": "\n".join(CLASSES), "train": f"7;{CLASSES[0]}\n100218;{CLASSES[1]}\n",
          "validation": f"7;{CLASSES[2]}", "test": "7\n100218"}


def _json20() -> dict[str, str]:
    entries = [{"id": name, "template": CLASSES[0].replace("something", "[something]")} for name in VIDEOS[:2]]
    return {"labels.json": json.dumps({name: str(i) for i, name in enumerate([CLASSES[0], CLASSES[2]])}),
            "train.json": json.dumps(entries), "validation.json": json.dumps(entries[:1]),
            "test.json": json.dumps([{"id": "7"}])}


_KINETICS = ("label,youtube_id,time_start,time_end,split\nzooming in,abc-_DEF012,4,14,train\n"
             "\"holding, twice\",abc-_DEF012,5,15,train\n")
# name -> (parser, file name of a frame, label files)
FORMS: dict[str, tuple[Callable[..., Any], str, dict[str, str]]] = {
    "sthv1": (parse_sthv1, "{:05d}.jpg", {f"something-something-v1-{k}.csv": text for k, text in _CSV20.items()}),
    "jester": (parse_jester, "{:05d}.jpg", {f"jester-v1-{k}.csv": text for k, text in _CSV20.items()}),
    "sthv2": (parse_sthv2, "{:06d}.jpg", _json20()),
    "kinetics": (parse_kinetics, "img_{:05d}.jpg",
                 {"kinetics_train.csv": _KINETICS, "kinetics_val.csv": _KINETICS}),
    "ucf101": (parse_ucf101, "img_{:05d}.jpg",
               {"classInd.txt": "1 Zoom\n2 Hold\n", "trainlist01.txt": "Zoom/v_Zoom_g01_c01.avi 1\n",
                "testlist01.txt": "Hold/7.avi\n"}),
    "hmdb51": (parse_hmdb51, "img_{:05d}.jpg",
               {"zoom_test_split1.txt": "7.avi 1 \n100218.avi 2 \n",
                "hold_test_split1.txt": "v_Zoom_g01_c01.avi 0 \n7.avi 1"}),
}
_TABLE = {"videos.csv": "file,label,split\nzoom/7.mp4,Zooming In,train\n\"a, b.mp4\",Holding something,\n",
          "datasets.yaml": "mine:\n  root: videos\n  train_list: lists/train.txt\n  val_list: val.txt\n"
                           "  num_class: 3\n  template: \"img_{:05d}.jpg\"\nother:\n  root: /v\n  train_list: a\n"
                           "  val_list: b\n  categories: c\n"}
_WORDS = [*CLASSES, *VIDEOS, "zoom/7.avi", "file,label", "root", "train_list", "val_list", "num_class", "{", "[", "\""]


def make(root: Path, seed: int) -> "Labels":
    return Labels(root, seed)


class Labels:
    """Each input damages one file of one data set, or replaces it by a text of hypothesis."""

    def __init__(self, root: Path, seed: int) -> None:
        set_up(root)
        self.root, self.seed, self.frames = root, seed, root / "frames"
        for home in ("", "zoom/", "hold/", "Zoom/", "Hold/", "zooming_in/"):
            for video in VIDEOS:
                for form, (_, template, _) in FORMS.items():
                    directory = self.frames / form / home / video
                    directory.mkdir(parents=True, exist_ok=True)
                    (directory / template.format(1)).touch()
        self.texts = Texts(seed, _WORDS)
        self.names: list[str] = []

    def __call__(self, number: int) -> list[str]:
        rng = np.random.default_rng((self.seed, number))
        choice = number // 2 % (len(FORMS) + len(_TABLE))
        form = list(FORMS)[choice] if choice < len(FORMS) else None
        files = FORMS[form][2] if form else dict([list(_TABLE.items())[choice - len(FORMS)]])
        directory, out = self.root / "labels", self.root / "lists"
        for emptied in (directory, out):
            shutil.rmtree(emptied, ignore_errors=True)
            emptied.mkdir()
        for name, content in files.items():
            (directory / name).write_text(content, encoding="utf-8")
        name = list(files)[rng.integers(len(files))]
        text = self.texts[number // 2] if number % 2 else None
        (directory / name).write_bytes(damage(files[name].encode(), rng, most=1) if text is None
                                       else text.encode("utf-8", "surrogatepass"))
        self.names = [str(directory), str(self.frames)]
        try:
            return self.read(form, directory / name, out)
        finally:
            hidden = [path.name for path in out.rglob(".*")]
            if hidden:
                raise Fault(f"left behind: {hidden}")

    def read(self, form: Optional[str], file: Path, out: Path) -> list[str]:
        if file.suffix == ".yaml":
            return list(read_dataset_file(file))
        if form is None:
            return [item.path for item in read_csv(file, self.root)]
        parse, template, _ = FORMS[form]
        summary = write_lists(parse(file.parent), self.frames / form, out, template=template, workers=1)
        for name, count in summary.listed.items():
            found = len(read_list(out / name, summary.classes or None)) if count else 0
            if found != count:
                raise Fault(f"{name}: {count} videos were listed, {found} are read")
        return [f"{name}: {count}" for name, count in summary.listed.items()]
