"""The evaluation loop needs a ClipRuntime and nothing else; TorchClip is one."""
import pytest
import torch

from ops.data.loader import make_loader
from ops.data.preprocessing import Preprocessing
from ops.evaluation.clip_runtime import ClipRuntime, TorchClip
from ops.evaluation.evaluate import evaluate
from ops.models import TSN
from ops.spec import ModelSpec
from tests.helpers.golden_model import fill

SPEC = ModelSpec(3, 2, arch="resnet18", input_size=32)


class Means:
    """A runtime without a network: the logits are the means of a clip's first three channels."""
    spec = SPEC
    preprocessing = Preprocessing((0.0,), (1.0,))
    class_names = None

    def __call__(self, clips):
        return clips[:, :3].float().mean(dim=(2, 3))


def batches(views, videos=5, size=2):
    """Batches of 2 videos with random pixels; the label is the video's number."""
    clips = torch.randint(0, 255, (videos, views * 6, 4, 4), generator=torch.manual_seed(0)).byte()
    return clips, make_loader([(clip, number) for number, clip in enumerate(clips)], size, workers=0, train=False)


def test_scores_are_the_mean_over_views_in_the_videos_order():
    clips, loader = batches(views=3)
    found = evaluate(Means(), loader, mirrored=[False] * 3)
    wanted = clips.unflatten(1, (3, 6))[:, :, :3].float().mean(dim=(1, 3, 4))
    assert torch.allclose(found.logits, wanted, rtol=1e-6) and found.labels.tolist() == list(range(5))


def test_a_mirrored_views_scores_change_places():
    clips, loader = batches(views=2)
    found = evaluate(Means(), loader, mirrored=[False, True], mirror_labels=[1, 0, 2])
    plain, mirrored = clips.unflatten(1, (2, 6))[:, :, :3].float().mean(dim=(3, 4)).unbind(dim=1)
    assert torch.allclose(found.logits, (plain + mirrored[:, [1, 0, 2]]) / 2, rtol=1e-6)


def test_softmax_and_early_end():
    _, loader = batches(views=1)
    whole, some = evaluate(Means(), loader), evaluate(Means(), loader, softmax=True, max_steps=2)
    assert torch.allclose(some.logits, whole.logits[:4].softmax(dim=1)) and some.probabilities


@pytest.mark.parametrize("consensus", ["avg", "identity"])
def test_torch_clip_computes_the_models_logits(consensus):
    model = TSN.from_spec(SPEC.with_(consensus_type=consensus))
    model.load_state_dict(fill(model.state_dict()))
    clips = torch.randint(0, 255, (2, 6, 32, 32), generator=torch.manual_seed(1)).byte()
    runtime: ClipRuntime = TorchClip(model, ["a", "b", "c"])
    model.train()
    logits = runtime(clips)
    assert not model.training and not logits.requires_grad
    with torch.no_grad():
        wanted = model(model.preprocessing.apply(clips))
    assert torch.equal(logits, wanted.mean(dim=1) if consensus == "identity" else wanted)
    assert (runtime.spec, runtime.preprocessing, runtime.class_names) == (model.spec, model.preprocessing, ["a", "b", "c"])
