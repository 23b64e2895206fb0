"""Networks for tests: built without memory, shifted by a plain loop, compared with the golden numbers."""
import torch
from torch import nn

from ops.models import TSN
from tests.helpers.golden_model import fill


def on_meta(spec):
    """The TSN of a spec in shapes alone: random weights would take longer than what is tested."""
    with torch.device("meta"):
        return TSN.from_spec(spec)


class LoopShift(nn.Module):
    """The two-way shift by an eighth over clips of eight frames, frame by frame, in front of `net`."""

    def __init__(self, net=None):
        super().__init__()
        self.net = net or nn.Identity()

    def forward(self, x):
        return self.net(loop_shift(x, 8))


def loop_shift(x, t):
    """(N*T, C, H, W): an eighth of the channels from the next frame, an eighth from the previous one, zeros at the ends."""
    fold, shifted = x.shape[1] // 8, x.clone()
    for i in range(len(x)):
        first, last = i % t == 0, i % t == t - 1
        shifted[i, :fold] = 0 if last else x[i + 1, :fold]
        shifted[i, fold:2 * fold] = 0 if first else x[i - 1, fold:2 * fold]
    return shifted


def published_key(key, head):
    """Our key -> the key in a published TSN, whose classifier is outside the backbone."""
    return key.replace(head, "new_fc", 1) if key.startswith(head) else f"base_model.{key}"


def check_golden(net, head, name, frames, golden):
    """Keys, shapes, order and logits of a golden row; the mean over eight frames is the consensus."""
    keys = {key: published_key(key, head) for key in net.state_dict()}
    ours = [[keys[key], list(value.shape)] for key, value in net.state_dict().items()]
    assert ours == golden("state_dict_keys")[name]
    weights = fill({keys[key]: value for key, value in net.state_dict().items()})
    net.load_state_dict({key: weights[keys[key]] for key in keys})
    with torch.inference_mode():
        logits = net.eval()(frames.reshape(-1, 3, *frames.shape[-2:])).unflatten(0, (-1, 8)).mean(1)
    expected = torch.tensor(golden("logits")[name])
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()
