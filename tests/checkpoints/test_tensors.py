"""What keys and shapes show of a network: every published layout, and options together."""
import pytest
import torch

from ops.checkpoints.tensors import CLIP, ONLINE, file_kind, read_tensors, recognize
from ops.models import TSN
from ops.spec import ModelSpec


def test_every_published_layout_is_recognized_by_its_tensors_alone(golden):
    shift = {"tsn": {"shift": False}, "block": {"shift": True, "shift_place": "block"}}
    for name, rows in golden("state_dict_keys").items():
        tensors = {key: torch.empty(shape, device="meta") for key, shape in rows}
        kind, (arch, score) = file_kind(tensors), recognize(tensors)
        facts = read_tensors(tensors, kind, arch)
        first = name.split("_")[0]
        if first == "online":
            assert (kind, arch, score, facts) == (ONLINE, "mobilenetv2", 1, {"num_class": 27, "modality": "RGB"})
            continue
        assert (kind, arch, score) == (CLIP, {"bninception": "BNInception"}.get(first, first), 1), name
        expected = {"num_class": 11, "modality": "Flow" if name.endswith("flow") else "RGB",
                    "temporal_pool": name.endswith("tpool"), "non_local": name.endswith("nl")}
        if first != "bninception":  # whose keys do not show the shift
            expected |= shift.get(name.split("_")[-1], {"shift": True, "shift_place": "blockres"})
        if name.endswith("nodropout"):
            expected["dropout"] = 0.0
        assert facts == expected, name


@pytest.mark.parametrize("arch", ["resnet34", "resnet152"])
@pytest.mark.parametrize("options", [
    dict(shift_place="block", temporal_pool=True, non_local=True, non_local_type="gaussian"),
    dict(modality="RGBDiff", dropout=0.0),
])
def test_options_show_in_the_tensors_also_together(arch, options):
    spec = ModelSpec(3, 8, arch=arch, shift=True, **options)
    with torch.device("meta"):
        state = TSN.from_spec(spec).state_dict()
    kind, (found, score) = file_kind(state), recognize(state)
    assert (kind, found, score) == (CLIP, arch, 1)
    facts = read_tensors(state, kind, found)
    assert facts == {key: value for key, value in spec.with_(shift_place=spec.place).to_dict().items()
                     if key in facts}
    assert set(options) <= set(facts)
