"""The benchmark of loading: a small run, and that both sides of its comparison make the same clips."""
import numpy as np
import pytest
import torch
from PIL import Image

from ops.common.cli import Parser
from ops.common.errors import UserError
from ops.data.clip_transforms import GroupMultiScaleCrop
from ops.data.preprocessing import Preprocessing
from ops.data.training_crop import TrainingCrop
from tools.benchmarks import data as benchmark
from tools.benchmarks import data_files
from tools.benchmarks.flags import add_data_flags


def parse(*flags):
    parser = Parser()
    add_data_flags(parser)
    return parser.parse_args(flags)


def test_a_small_run(tmp_path, monkeypatch, capsys):
    for module in (benchmark, data_files):
        monkeypatch.setattr(module, "FRAMES", 12)
    monkeypatch.setattr(data_files, "real_videos", list)
    monkeypatch.setenv("TSM_CACHE", str(tmp_path))
    before = torch.get_num_threads()
    try:
        benchmark.run(parse("--videos", "1", "--clips", "8", "--rounds", "1", "-j", "0", "--directory", str(tmp_path)))
    finally:
        torch.set_num_threads(before)
    out = capsys.readouterr().out
    for words in ("published way, from frames", "frames", "video, x264 defaults", "the decoders alone", "JPEG"):
        assert words in out


def test_the_published_way_and_ours_make_the_same_clip(tmp_path, monkeypatch):
    """With the same draws of the sampler, of the crop and of the mirroring, after normalising."""
    for module in (benchmark, data_files):
        monkeypatch.setattr(module, "FRAMES", 12)
    monkeypatch.setattr(data_files, "real_videos", list)
    name = data_files.make_videos(tmp_path, 1, 340)[0]
    torch.manual_seed(3)
    theirs, _ = benchmark.PublishedLoading(tmp_path, [name])[0]
    torch.manual_seed(3)
    frames = [np.asarray(Image.open(tmp_path / "frames" / name / f"{i:06d}.jpg"))
              for i in benchmark.SAMPLER.frames(12)]
    state = torch.random.get_rng_state()
    crop = GroupMultiScaleCrop(224)
    crop.sample((340, 256))
    mirrored = bool(torch.rand(1) < 0.5)
    torch.random.set_rng_state(state)
    box = crop.sample((340, 256))
    crop.sample = lambda size: box if not mirrored else (*box[:2], 340 - box[2] - box[0], box[3])
    ours = Preprocessing(benchmark.MEAN, benchmark.STD).apply(TrainingCrop(crop)(frames, mirrored)[None])[0]
    assert (ours - theirs).abs().max() < 2.01 / 255 / 0.224


@pytest.mark.parametrize("flags, words", [(["--clips", "9"], "multiple of 8"), (["--rounds", "0"], "--rounds"),
                                          (["--width", "101"], "--width 101: choose an even"),
                                          (["-j", "-1"], "--workers")])
def test_wrong_flags(flags, words):
    with pytest.raises(UserError, match=words):
        parse(*flags)
