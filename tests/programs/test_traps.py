"""One test for each trap of the published code that the contract lists, named after it."""
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ops.checkpoints.matching import tune_from
from ops.checkpoints.store_name import parse_name
from ops.common.errors import UserError
from ops.common.meters import accuracy
from ops.data.list_files import read_list
from ops.data.loader import make_loader
from ops.data.tsn_dataset import BadVideo, TSNDataSet, collate
from ops.dataset_config import resolve_dataset, swaps_by_names
from ops.models import TSN
from ops.spec import ModelSpec
from ops.streaming import sources as stream_sources
from ops.streaming.online import OnlineTSM
from ops.streaming.stream import frame_transform
from ops.temporal_shift import TemporalShift, shift_layers
from ops.training.train_set import training_set
from ops.weights import save_checkpoint
from tests.helpers.golden_model import clip
from tests.helpers.programs import assert_refused, make_frames, make_somethingv2, run, write_list


def small(**options):
    torch.manual_seed(0)
    return TSN.from_spec(ModelSpec(**{"num_class": 4, "num_segments": 4, "arch": "resnet18", "shift": True,
                                      "input_size": 32, **options}), inplace=False)


def test_inplace_shift_does_not_change_the_residuals_input():
    block = small().base_model.layer1[0]
    block.conv1 = TemporalShift(block.conv1.net, 4, inplace=True)
    x = torch.randn(8, 64, 8, 8, requires_grad=True)
    before = x.detach().clone()
    block(x).sum().backward()
    assert torch.equal(x, before)


def test_unidirectional_shifts_from_the_past_not_the_future():
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 8, 1, 1).contiguous()  # every channel holds the frame's number
    shifted = TemporalShift.shift(x, 4, 8, direction="unidirectional")
    assert shifted[:, 0, 0, 0].tolist() == [0, 0, 1, 2]
    assert torch.equal(shifted[:, 1:], x[:, 1:])


def test_an_unknown_shift_place_is_refused_not_ignored():
    with pytest.raises(UserError, match="blockres"):
        small(shift_place="stage")


@pytest.mark.parametrize("arch, blocks", [("resnet18", [2, 2, 2, 2]), ("resnet34", [3, 4, 6, 3]),
                                          ("resnet101", [3, 4, 23, 3])])
def test_non_local_keeps_every_block(arch, blocks):
    net = small(arch=arch, non_local=True).base_model
    assert [len(getattr(net, f"layer{i}")) for i in (1, 2, 3, 4)] == blocks
    assert any("nl.g" in key for key in net.state_dict())


def test_non_local_is_in_the_optimizer_under_partial_bn():
    model = TSN.from_spec(ModelSpec(4, 4, arch="resnet18", non_local=True), partial_bn=True)
    listed = {id(p) for group in model.get_optim_policies() for p in group["params"]}
    wanted = [p for name, p in model.named_parameters() if ".nl." in name]
    assert wanted and all(id(p) in listed for p in wanted)
    model.train()
    assert all(p.requires_grad for p in wanted)


def test_mobilenetv2_with_shift_raises_no_attributeerror():
    model = TSN(4, 4, "RGB", base_model="mobilenetv2", is_shift=True, pretrain="none")
    assert len(list(shift_layers(model))) == 10
    assert model(clip(1, 4, 3, 32)).shape == (1, 4)


def test_rgbdiff_raises_no_typeerror_and_reads_differences():
    model = TSN(4, 2, "RGBDiff", base_model="resnet18", pretrain="none").eval()
    still = torch.rand(1, 1, 3, 32, 32).expand(1, 12, 3, 32, 32).reshape(1, 36, 32, 32)  # T=2, 6 equal images each
    with torch.no_grad():
        assert torch.equal(model(still), model(torch.zeros(1, 36, 32, 32)))
        assert not torch.equal(model(still), model(torch.rand(1, 36, 32, 32)))


@pytest.mark.parametrize("segments", [3, 5, 8])
@pytest.mark.parametrize("shift", [True, False])
def test_temporal_pool_takes_odd_t(segments, shift):
    model = small(num_segments=segments, temporal_pool=True, shift=shift)
    assert model(clip(2, segments, 3, 32)).shape == (2, 4)


def test_zeros_are_zeros_also_where_the_input_is_infinite():
    x = torch.full((2, 8, 1, 1), float("inf"))
    shifted = TemporalShift.shift(x, 2, 8)
    assert shifted[1, 0, 0, 0] == 0 and shifted[0, 1, 0, 0] == 0


def test_top5_with_fewer_than_five_classes():
    top1, top5 = accuracy(torch.eye(3), torch.tensor([0, 1, 0]), topk=(1, 5))
    assert (round(float(top1), 3), float(top5)) == (66.667, 100.0)


def test_a_missing_video_is_not_replaced_by_another(tmp_path):
    make_frames(tmp_path, {"there": (4, 0)})
    write_list(tmp_path / "list.txt", {"gone": (4, 1), "there": (4, 0)})
    with pytest.raises(UserError, match="gone"):
        TSNDataSet(tmp_path, tmp_path / "list.txt", 2, image_tmpl="{:06d}.jpg")[0]
    item = TSNDataSet(tmp_path, tmp_path / "list.txt", 2, image_tmpl="{:06d}.jpg", skip_bad=True)[0]
    assert isinstance(item, BadVideo) and item.path == "gone"
    assert collate([item]).clips is None


def test_an_unreadable_frame_is_not_replaced_by_frame_1(tmp_path):
    make_frames(tmp_path, {"a": (4, 0)})
    write_list(tmp_path / "list.txt", {"a": (4, 0)})
    (tmp_path / "a" / "000003.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(UserError, match="000003.jpg"):
        TSNDataSet(tmp_path, tmp_path / "list.txt", 4, image_tmpl="{:06d}.jpg", random_shift=False)[0]


def test_paths_with_spaces_are_one_path(tmp_path):
    write_list(tmp_path / "list.txt", {"my clip 7": (12, 3)})
    record, = read_list(tmp_path / "list.txt")
    assert (record.path, record.num_frames, record.label) == ("my clip 7", 12, 3)


def test_workers_do_not_share_one_random_state(tmp_path):
    make_frames(tmp_path, {f"v{i}": (30, 0) for i in range(8)})
    write_list(tmp_path / "list.txt", {f"v{i}": (30, 0) for i in range(8)})

    class Indices(TSNDataSet):
        def __getitem__(self, key):
            self.transform = lambda frames: torch.tensor(self.drawn)
            return super().__getitem__(key)

        def segment_indices(self, num_frames):
            self.drawn = super().segment_indices(num_frames)
            return self.drawn
    data = Indices(tmp_path, tmp_path / "list.txt", 4, image_tmpl="{:06d}.jpg")
    rows = [tuple(row) for batch in make_loader(data, 1, workers=2, train=True) for row in batch.clips.tolist()]
    assert len(set(rows)) >= 7  # equal states would give each pair of workers equal rows


def test_flow_is_not_flipped_where_flips_are_forbidden(tmp_path):
    """The published code mirrored flow whatever the data set. Motion to the right is 200 here; mirrored it is 55."""
    for name in ("a", "b"):
        (tmp_path / "flow" / name).mkdir(parents=True)
        for i in range(1, 7):
            Image.merge("RGB", [Image.new("L", (40, 36), value) for value in (200, 100, 0)]).save(
                tmp_path / "flow" / name / f"{i:06d}.jpg", quality=100, subsampling=0)
    write_list(tmp_path / "list.txt", {"a": (6, 86), "b": (6, 87)})
    data = resolve_dataset("somethingv2", "Flow", str(tmp_path), train_list=str(tmp_path / "list.txt"),
                           root_path=str(tmp_path / "flow"))
    settings = ModelSpec(174, 1, "Flow", arch="resnet18", input_size=32)
    model = TSN.from_spec(settings)

    def motions(flip):
        videos = training_set(model, data, flip=flip)
        items = [videos[epoch, index] for epoch in range(10) for index in range(2)]
        assert all(abs(float(clip[1::2].float().mean()) - 100) < 3 for clip, _ in items)
        return {(round(float(clip[::2].float().mean()), -1), label) for clip, label in items}
    assert motions("none") == {(200, 86), (200, 87)}
    assert motions("auto") == motions("labels") == {(200, 86), (200, 87), (60, 86), (60, 87)}


def test_jester_pairs_come_from_its_names():
    names = ["Sliding Two Fingers Left", "Sliding Two Fingers Right", "Thumb Up", "Turning Hand Clockwise",
             "Turning Hand Counterclockwise"]
    assert swaps_by_names(names) == ((0, 1), (3, 4))


def test_tune_from_decides_by_classes_not_by_substring(tmp_path):
    """`something` in `somethingv2` is true, and their classes still are not the same."""
    directory = tmp_path / "temporal-shift-module" / "somethingv2"
    directory.mkdir(parents=True)
    path = directory / "TSM_something_RGB_resnet18_shift8_blockres_avg_segment4_e45.pth"
    save_checkpoint({"state_dict": {f"module.{k}": v for k, v in small().state_dict().items()}}, path)
    assert tune_from(small(), path, "somethingv2", None) is False
    assert tune_from(small(), path, "something", None) is True


def test_resuming_does_not_truncate_the_log(tmp_path):
    from ops.training.run_log import RunLog, read_log
    log = RunLog(tmp_path)
    for epoch in range(2):
        log.add({"epoch": epoch, "lr": 0.1, "train_loss": 1.5}, 0.0)
    log.close()
    resumed = RunLog(tmp_path, start_epoch=2)
    resumed.add({"epoch": 2, "lr": 0.1, "train_loss": 1.0}, 0.0)
    resumed.close()
    assert [row["epoch"] for row in read_log(tmp_path / "log.csv")] == ["0", "1", "2"]


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("old", [b"Epoch: [0][0/20], lr: 0.01000\tLoss 5.1\n" * 2, b"Epoch: [0][0/20]\n", b"\xff\x00",
                                 b"epoch,lr\n0,0.1\n"])
def test_a_published_log_is_renamed_not_read_or_lost(old, start, tmp_path, caplog):
    from ops.training.run_log import RunLog, read_log
    caplog.set_level("INFO")
    (tmp_path / "log.csv.old").write_text("an older one")
    (tmp_path / "log.csv").write_bytes(old)
    log = RunLog(tmp_path, start)
    log.add({"epoch": start, "lr": 0.1, "train_loss": 1.5}, 0.0)
    log.close()
    assert (tmp_path / "log.csv.old1").read_bytes() == old and (tmp_path / "log.csv.old").read_text() == "an older one"
    assert [row["epoch"] for row in read_log(tmp_path / "log.csv")] == [str(start)]
    assert caplog.text.count("log.csv.old1") == 1


def test_imagenet_weights_are_not_downloaded_to_be_overwritten(tmp_path, monkeypatch):
    import main as main_program
    import opts
    path = tmp_path / "ckpt.pth.tar"
    model = small()
    save_checkpoint({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)

    def fetched(*args, **kwargs):
        raise AssertionError("fetched image weights that a checkpoint replaces")
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetched)
    monkeypatch.setattr("ops.backbones.imagenet_file", fetched)
    make_somethingv2(tmp_path)
    args = opts.parse_train(["somethingv2", "RGB", "--arch", "resnet18", "--shift", "--tune_from", str(path)])
    settings = ModelSpec(4, 4, arch="resnet18", shift=True)
    built = main_program.build(args, settings, resolve_dataset("somethingv2", "RGB", str(tmp_path)), None)
    assert torch.equal(built.state_dict()["base_model.conv1.weight"], model.state_dict()["base_model.conv1.weight"])


def test_the_published_command_without_data_or_weights_is_one_line(monkeypatch, capfd, tmp_path):
    """Told of the lists at once, not after a download of 100 MB."""
    monkeypatch.setenv("TSM_ROOT", str(tmp_path / "none"))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *args, **kwargs: pytest.fail("fetched weights first"))
    done = run(monkeypatch, capfd, "main", "somethingv2", "RGB", "--shift")
    assert_refused(done, "something/v2/train_videofolder.txt", "No such file", "gen_label", "--train_list")
    assert (done.out, done.err.count("\n")) == ("", 1)


def test_the_demo_feeds_rgb_to_an_rgb_model(tmp_path, monkeypatch):
    """OpenCV's images are BGR. A red scene must reach the network with its first channel the highest."""
    class RedCamera:
        def __init__(self, *args):
            self.left = 3

        def isOpened(self):
            return True

        def set(self, *args):
            return True

        def get(self, *args):
            return 0.0

        def read(self):
            self.left -= 1
            return self.left >= 0, np.full((48, 64, 3), (20, 60, 220), np.uint8)  # blue, green, red

        def release(self):
            pass
    monkeypatch.setattr(stream_sources.cv2, "VideoCapture", RedCamera)
    online = OnlineTSM(TSN.from_spec(ModelSpec(4, 2, arch="resnet18", shift=True, shift_direction="unidirectional",
                                               input_size=32)))
    frame = next(stream_sources.Camera(0).frames())
    pixels = frame_transform(online.preprocessing)(frame.read())
    assert [round(float(channel.float().mean())) for channel in pixels[0]] == [220, 60, 20]
    red = online.prepare(pixels)[0].mean((1, 2)).tolist()
    assert red == pytest.approx([(220 / 255 - 0.485) / 0.229, (60 / 255 - 0.456) / 0.224, (20 / 255 - 0.406) / 0.225],
                                abs=1e-4)


def test_the_demo_does_not_begin_with_uninitialised_buffers():
    """Memory that held NaN before must not be in the first frame's answer: every buffer is zeros."""
    from online_demo.mobilenet_v2_tsm import MobileNetV2
    poison = [torch.full(shape, float("nan")) for shape in MobileNetV2(3, 32).buffer_shapes()]
    del poison
    published = MobileNetV2(3, 32).eval()
    online = OnlineTSM(TSN.from_spec(ModelSpec(4, 2, arch="resnet18", shift=True, shift_direction="unidirectional",
                                               input_size=32)))
    for buffers in (published.initial_buffers(), online.initial_state()):
        assert len(buffers) == (10 if buffers[0].shape[1] == 3 else 8)
        assert all(torch.equal(buffer, torch.zeros_like(buffer)) for buffer in buffers)
    with torch.no_grad():
        assert published(torch.zeros(1, 3, 32, 32), *published.initial_buffers())[0].isfinite().all()


@pytest.mark.parametrize("name, wanted", [
    ("TSM_kinetics_RGB_resnet50_avg_segment5_e50.pth", ("kinetics", "RGB", "resnet50", False, 5, False)),
    ("TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense_nl.pth",
     ("kinetics", "RGB", "resnet50", True, 8, True)),
    ("TSM_kinetics_RGB_mobilenetv2_shift8_blockres_avg_segment8_e100_dense.pth",
     ("kinetics", "RGB", "mobilenetv2", True, 8, False)),
    ("TSM_kinetics_Flow_resnet50_shift8_blockres_avg_segment8_e50.pth",
     ("kinetics", "Flow", "resnet50", True, 8, False)),
    ("TSM_something_RGB_resnet101_shift8_blockres_avg_segment8_e45.pth",
     ("something", "RGB", "resnet101", True, 8, False)),
    ("TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment16_e45.pth",
     ("somethingv2", "RGB", "resnet50", True, 16, False))])
def test_a_directory_called_temporal_shift_module_does_not_confuse_the_name(name, wanted, tmp_path):
    dataset, found = parse_name(tmp_path / "temporal-shift-module" / "TSM_shift_nl" / name)
    assert (dataset, found["modality"], found["arch"], found["shift"], found["num_segments"],
            found["non_local"]) == wanted


def test_partial_bn_false_really_thaws():
    model = TSN.from_spec(ModelSpec(4, 4, arch="resnet18"), partial_bn=True)
    model.train()
    model.partialBN(False)
    model.train()
    assert all(m.training and m.weight.requires_grad for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_last_classes_absent_from_the_list_do_not_spoil_the_mean(tmp_path):
    """The published confusion matrix divided by zero for a class without videos."""
    from ops.evaluation.metrics import Predictions, write_report
    scores = Predictions(torch.eye(3)[[0, 1]], torch.tensor([0, 1]))
    write_report(scores, tmp_path, None, {})
    assert json.loads((tmp_path / "results.json").read_text())["class_accuracy"] == 100
    assert np.isnan(scores.class_accuracies()[2])
