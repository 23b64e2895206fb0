"""Small online models, their exported steps, and their logits over a stream."""
from functools import lru_cache

import onnx
import torch
from torch import nn

from ops.checkpoints.online_format import load_streamable, online_content
from ops.models import TSN
from ops.runtimes.export import export_model
from ops.runtimes.model_info import METADATA_KEY
from ops.streaming.online import OnlineTSM
from ops.streaming.sources import VideoFile
from ops.streaming.stream import frame_transform
from ops.weights import save_checkpoint
from tests.helpers.clips import real_video

SIZE = 64  # pixels


# ---- models -------------------------------------------------------------------------------------------------

def make_model(arch, t, place="blockres", div=8, **options):
    """A random clip model, the same at every call, through whose layers signals and differences pass undamped."""
    torch.manual_seed(0)
    model = TSN(5, t, "RGB", base_model=arch, pretrain="none", is_shift=True, shift_div=div, shift_place=place,
                print_spec=False, partial_bn=False, **{"shift_direction": "unidirectional", **options})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    return model.eval()


def save_online(tmp_path, size=SIZE, seed=0):
    """Write the online file of a small ResNet-18; return its path. seed: 0 gives the weights of `exported_step`."""
    torch.manual_seed(seed)
    clip_file = tmp_path / "clip.pth.tar"
    model = make_model("resnet18", 4, input_size=size)
    if seed:
        torch.nn.init.normal_(model.new_fc.weight)
    settings = model.spec.to_dict()
    save_checkpoint({"state_dict": model.state_dict(), "settings": settings, "class_names": list("abcde")}, clip_file)
    path = tmp_path / "online.pth.tar"
    save_checkpoint(online_content(load_streamable(clip_file)), path)
    return path


@lru_cache(maxsize=None)
def exported_step(arch):
    """The exported step of `make_model(arch, 4, input_size=SIZE)`; exporting takes seconds."""
    return export_model(OnlineTSM(make_model(arch, 4, input_size=SIZE)))


def with_metadata(exported, text):
    """The ONNX content of a step with this metadata entry instead of its own."""
    model = onnx.load_from_string(exported.content)
    onnx.helper.set_model_props(model, {METADATA_KEY: text})
    return model.SerializeToString()


# ---- streams ------------------------------------------------------------------------------------------------

def stream_logits(online, clips, t):
    """Logits of every frame, (N, T, num_class), streamed from a zero state."""
    frames = clips.unflatten(1, (t, 3))
    state = online.initial_state(len(clips), *clips.shape[-2:])
    rows = []
    for i in range(t):
        logits, state = online.step(frames[:, i], state)
        rows.append(logits)
    return torch.stack(rows, dim=1)


def logits_over(model, frames):
    """Logits (F, num_class) of frames (1, 3, H, W), streamed from a zero state."""
    state, rows = model.initial_state(), []
    for frame in frames:
        logits, state = model.step(frame, state)
        rows.append(logits[0].clone())
    return torch.stack(rows)


def video_frames(online, begin, end):
    """Frames `begin` to `end` of a real video, (1, 3, H, W) each, normalized for this model."""
    transform = frame_transform(online.preprocessing)
    frames = list(VideoFile(real_video("bikes.mp4")).frames())[begin:end]
    return [online.prepare(transform(frame.read())) for frame in frames]


def assert_close(got, wanted, tolerance=1e-4):
    """Logits (streams, frames, num_class) agree relative to the largest one, and differ between frames."""
    assert got.shape == wanted.shape and got.dtype == torch.float32
    assert float((got - wanted).abs().max()) <= tolerance * float(wanted.abs().max())
    assert float(wanted.std(dim=1).min()) > 1e-3 * float(wanted.abs().max()), "the frames' logits differ"


def assert_equal_logits(got, wanted, relative=1e-5):
    """Equal up to rounding, relative to the largest logit."""
    assert float((got - wanted).abs().max()) <= relative * float(wanted.abs().max())
    assert float(wanted.std()) > 0
