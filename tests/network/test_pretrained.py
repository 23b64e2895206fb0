"""ImageNet weights: from a file, from the torch hub cache, and errors that say where to put the file."""
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from ops.backbones import BACKBONES, find_backbone
from ops.common.errors import UserError
from ops.models import TSN
from ops.pretrained import build_backbone, imagenet_file, inflate_first_conv
from tests.helpers.golden_model import clip, fill

TORCHVISION = {"resnet18": "resnet18", "mobilenetv2": "mobilenet_v2", "regnety400mf": "regnet_y_400mf"}
FILES = {"resnet18": "resnet18-f37072fd.pth", "mobilenetv2": "mobilenet_v2-b0353104.pth",
         "regnety400mf": "regnet_y_400mf-c65dace8.pth"}


@pytest.fixture(scope="module")
def theirs():
    """theirs[arch]: torchvision's network with deterministic weights instead of the ImageNet ones."""
    nets = {}
    for arch, name in TORCHVISION.items():
        net = torchvision.models.get_model(name, weights=None)
        net.load_state_dict(fill(net.state_dict()))
        nets[arch] = net.eval()
    return nets


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty torch hub cache, without a network behind it."""
    def refuse(url, *args, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "torch home" / "hub" / "checkpoints"


def outputs(net):
    with torch.no_grad():
        return net.eval()(clip(2, 1, 3, 64))


def save(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def refusal(arch, pretrain):
    with pytest.raises(UserError) as info:
        build_backbone(arch, str(pretrain))
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.mark.parametrize("arch", TORCHVISION)
@pytest.mark.parametrize("form", ["bare", "wrapped", "data parallel", "without head", "other head", "old"])
def test_pretrain_from_a_file(arch, form, theirs, tmp_path):
    weights = dict(theirs[arch].state_dict())
    head = [key for key in weights if key.startswith(("fc.", "classifier."))]
    wanted = outputs(theirs[arch])
    if form == "without head":
        weights = {key: value for key, value in weights.items() if key not in head}
    if form == "other head":
        weights.update({key: weights[key][:7].clone() for key in head})
    if form == "old":
        weights = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    if form == "data parallel":
        weights = {f"module.{key}": value for key, value in weights.items()}
    path = save({"epoch": 3, "state_dict": weights} if form == "wrapped" else weights, tmp_path / "my weights.pth")
    net = build_backbone(arch, str(path))
    last = find_backbone(arch).head
    if form in ("without head", "other head"):  # only the features matter
        assert getattr(net, last).out_features == 1000
        setattr(net, last, nn.Identity())
        theirs_headless = torchvision.models.get_model(TORCHVISION[arch])
        theirs_headless.load_state_dict(theirs[arch].state_dict())
        setattr(theirs_headless, last, nn.Identity())
        wanted = outputs(theirs_headless)
    assert torch.allclose(outputs(net), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("arch", TORCHVISION)
def test_pretrain_from_a_file_under_our_own_names(arch, theirs, tmp_path):
    ours = build_backbone(arch, "none")
    path = save(fill(ours.state_dict()), tmp_path / "ours.pth")
    net = build_backbone(arch, str(path))
    wanted = torch.load(path)
    assert all(torch.equal(value, wanted[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("arch", TORCHVISION)
def test_imagenet_from_the_torch_hub_cache(arch, theirs, hub):
    save(theirs[arch].state_dict(), hub / FILES[arch])
    wanted = outputs(theirs[arch])
    assert torch.allclose(outputs(build_backbone(arch, "imagenet")), wanted, rtol=1e-4,
                          atol=1e-4 * float(wanted.abs().max()))


def test_imagenet_weights_are_loaded_behind_the_shift(theirs, hub):
    save(theirs["resnet18"].state_dict(), hub / FILES["resnet18"])
    model = TSN(5, 4, "RGB", base_model="resnet18", is_shift=True, print_spec=False)
    weights = theirs["resnet18"].state_dict()
    assert torch.equal(model.base_model.layer1[0].conv1.net.weight, weights["layer1.0.conv1.weight"])
    assert torch.equal(model.base_model.layer4[1].bn2.running_var, weights["layer4.1.bn2.running_var"])
    assert model.new_fc.weight.shape == (5, 512) and float(model.new_fc.weight.detach().std()) < 0.0012


def test_imagenet_weights_are_downloaded_once(theirs, hub, monkeypatch):
    asked = []

    def download(url, destination, *args, **options):
        asked.append((url, Path(destination)))
        torch.save(theirs["resnet18"].state_dict(), destination)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        build_backbone("resnet18", "imagenet")
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", hub / FILES["resnet18"])]


@pytest.mark.parametrize("arch", TORCHVISION)
def test_offline_the_error_names_the_file_and_its_place(arch, hub):
    message = refusal(arch, "imagenet")
    for words in (f"https://download.pytorch.org/models/{FILES[arch]}", str(hub / FILES[arch]), "no route to host",
                  "pretrain PATH", "pretrain none"):
        assert words in message
    assert not (hub / FILES[arch]).exists()


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError("timed out"), OSError(28, "disk full"),
                                   urllib.error.HTTPError("url", 404, "Not Found", None, None)], ids=repr)
def test_other_download_errors(error, hub, monkeypatch):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    assert str(hub / FILES["resnet18"]) in refusal("resnet18", "imagenet")


def test_a_cache_directory_that_cannot_be_created(hub, tmp_path):
    (tmp_path / "torch home").write_text("a file where the directory should be")
    assert "cannot download" in refusal("resnet18", "imagenet")


def test_every_backbone_has_a_weight_file(hub):
    for arch in BACKBONES:
        path = hub / find_backbone(arch).weights_url.rsplit("/", 1)[-1]
        save({}, path)
        assert imagenet_file(arch) == path


def test_random_weights_need_no_file(hub):
    for pretrain in ("none", "", None):
        torch.manual_seed(0)
        first = build_backbone("resnet18", pretrain)
        torch.manual_seed(0)
        again = torchvision.models.resnet18()
        assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values()))


def test_misfit_names_keys_and_shapes(theirs, tmp_path):
    weights = dict(theirs["resnet18"].state_dict())
    del weights["layer1.0.conv1.weight"]
    weights["layer9.weight"] = torch.zeros(2)
    weights["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    path = save(weights, tmp_path / "odd.pth")
    message = refusal("resnet18", path)
    for words in (f"pretrain {path}", "conv1.weight is (64, 3, 3, 3), the model's is (64, 3, 7, 7)",
                  "1 keys missing: layer1.0.conv1.weight", "1 keys unknown: layer9.weight"):
        assert words in message


@pytest.mark.parametrize("arch, file_of, words", [
    ("mobilenetv2", "resnet18", "classifier.1.weight"),
    ("resnet18", "mobilenetv2", "keys missing: conv1.weight"),
])
def test_weights_of_another_network(arch, file_of, words, theirs, tmp_path):
    path = save(theirs[file_of].state_dict(), tmp_path / "other.pth")
    message = refusal(arch, path)
    assert str(path) in message and words in message


def test_mobilenet_misfit_names_keys_and_shapes(theirs, tmp_path):
    weights = dict(theirs["mobilenetv2"].state_dict())
    weights["features.0.0.weight"] = torch.zeros(16, 3, 3, 3)
    message = refusal("mobilenetv2", save(weights, tmp_path / "narrow.pth"))
    assert "features.0.0.weight" in message and "(16, 3, 3, 3)" in message and "(32, 3, 3, 3)" in message


def test_mobilenet_misfit_under_our_own_names(tmp_path):
    weights = build_backbone("mobilenetv2", "none").state_dict()
    weights["features.0.0.weight"] = torch.zeros(16, 3, 3, 3)
    message = refusal("mobilenetv2", save(weights, tmp_path / "ours.pth"))
    assert "features.0.0.weight" in message and "(16, 3, 3, 3)" in message


@pytest.mark.parametrize("content, words", [
    (b"just a text\n", "checkpoint"), (b"", "not a readable checkpoint"), (None, "no such checkpoint")])
def test_files_that_are_not_checkpoints(content, words, tmp_path):
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    message = refusal("resnet18", path)
    assert str(path) in message and words in message


# ---- BNInception ----------------------------------------------------------------------------------------------

def test_bninception_reads_the_public_file(tmp_path):
    """There the classifier is called last_linear and the norms' values have shape (1, C)."""
    wanted = fill(find_backbone("BNInception").build().state_dict())
    public = {key.replace("fc.", "last_linear."): value[None] if "_bn." in key and value.dim() else value
              for key, value in wanted.items() if not key.endswith("num_batches_tracked")}
    assert any(value.shape[0] == 1 for key, value in public.items())
    net = build_backbone("BNInception", str(save(public, tmp_path / "bn_inception.pth")))
    assert all(torch.equal(value, wanted[key]) for key, value in net.state_dict().items())


# ---- other inputs than RGB ------------------------------------------------------------------------------------

@pytest.mark.parametrize("arch, first", [("resnet18", "conv1"), ("mobilenetv2", "features.0.0"),
                                         ("BNInception", "conv1_7x7_s2"), ("regnety400mf", "stem.0")])
def test_the_first_layer_is_widened_with_the_mean_kernel(arch, first):
    net = build_backbone(arch, "none")
    before = net.get_submodule(first)
    assert sum(isinstance(module, nn.Conv2d) and module is before for module in net.modules()) == 1
    inflate_first_conv(net, 10)
    after = net.get_submodule(first)
    assert after.weight.shape == (before.out_channels, 10, *before.kernel_size)
    gray = clip(2, 1, 1, 32)
    with torch.no_grad():  # the mean kernel on ten equal channels is the RGB kernels' sum on a gray image, x 10 / 3
        bias = 0 if before.bias is None else before.bias.view(1, -1, 1, 1)
        wanted = (before(gray.expand(-1, 3, -1, -1)) - bias) * 10 / 3 + bias
        assert torch.allclose(after(gray.expand(-1, 10, -1, -1)), wanted, atol=1e-4)
    assert all(torch.equal(after.weight[:, i], before.weight.mean(1)) for i in range(10))
