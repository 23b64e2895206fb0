"""Exported clip models: equal to PyTorch in every format, described by their metadata, and safe to share and to load."""
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from xml.etree import ElementTree

import onnx
import pytest
import torch

from ops.common.errors import UserError
from ops.evaluation.clip_runtime import TorchClip
from ops.models import TSN
from ops.runtimes.compare import compare_with_torch, noise, panned_photo
from ops.runtimes.export import ExportOptions, describe_model, export_model, to_openvino
from ops.runtimes.exported_file import ExportedModel, describe, files_of, read_exported, write_exported
from ops.runtimes.graphs import make_graph
from ops.runtimes.quantize import quantize_clips
from ops.runtimes.registry import as_clip, open_clip, open_step
from ops.spec import ModelSpec
from tests.helpers.online import make_model

SIZE, T = 32, 3
FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}


@pytest.fixture(scope="module")
def model():
    return make_model("resnet18", T, input_size=SIZE, shift_direction="bidirectional", consensus_type="identity")


@pytest.fixture(scope="module")
def exported(model):
    """Format -> the model with all that an export can add; exporting takes seconds."""
    options = ExportOptions(with_preprocessing=True, features=True)
    facts = {"class_names": list("abcde"), "dataset": "letters"}
    made = {format: export_model(model, format, options, **facts) for format in ("onnx", "torch")}
    return {**made, "openvino": to_openvino(made["onnx"])}


@pytest.fixture
def written(exported, tmp_path):
    """Format -> path of its file."""
    paths = {format: tmp_path / f"model{ending}" for format, ending in FORMATS.items()}
    for format, path in paths.items():
        write_exported(exported[format], path)
    return paths


# ---- the same answers -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("format, backend", [("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino"),
                                             ("torch", "torch")])
def test_logits_and_features_are_those_of_pytorch(model, exported, format, backend):
    runtime = as_clip(exported[format], backend)
    agreement = compare_with_torch(runtime, model, exported[format].info)
    assert agreement.compared == 8 and agreement.top1 == 100 and agreement.logit < 1e-5
    clips = noise(exported[format].info)
    for batch in (1, 3):
        logits, features = runtime.run(clips[:batch])
        assert torch.allclose(model.new_fc(features), logits, atol=1e-4 * float(logits.abs().max()))
        assert logits.shape == (batch, 5) and features.shape == (batch, 512)


@pytest.mark.parametrize("options", [
    {"consensus_type": "identity", "dropout": 0.0}, {"arch": "BNInception", "shift": False}, {"modality": "RGBDiff"},
    {"temporal_pool": True, "non_local": True, "num_segments": 5}, {"before_softmax": False}])
def test_the_exported_graph_equals_the_model(options):
    """The graph before an exporter sees it, with colors, differences and consensus of every kind."""
    torch.manual_seed(0)
    model = TSN.from_spec(ModelSpec(**{"num_class": 5, "num_segments": T, "arch": "resnet18", "shift": True,
                                       "input_size": 64, **options})).eval()
    torch.nn.init.normal_((model.new_fc or model.base_model.fc).weight)
    info = describe_model(model, ExportOptions(with_preprocessing=True, features=options.get("before_softmax", True)))
    clips = noise(info)
    frames = clips.unflatten(1, (-1, 3)).permute(0, 1, 3, 4, 2)
    with torch.no_grad():
        logits, *features = make_graph(model, info)(frames.flip(-1) if info.preprocessing.color == "BGR" else frames)
    wanted = TorchClip(model)(clips)
    assert float((logits - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max()) and float(wanted.std()) > 0
    assert [list(output.shape[1:]) for output in (logits, *features)] == list(info.outputs.values())


def test_a_fixed_batch_is_filled_up(model):
    """Whatever the number of clips: the rest of a batch is padding."""
    runtime = as_clip(export_model(model, "torch", ExportOptions(batch=2)))
    clips = noise(runtime.info)[:3]
    wanted = TorchClip(model)(clips)
    assert float((runtime(clips) - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
    with pytest.raises(UserError, match="a batch of 3: this model was exported for batches of 2"):
        runtime.engine.run([torch.zeros(3, *next(iter(runtime.info.inputs.values())))])


@pytest.mark.parametrize("format", FORMATS)
def test_threads_share_a_runtime(exported, format):
    runtime = as_clip(exported[format])
    clips = [noise(runtime.info)[i % 4:i % 4 + 1 + i % 2] for i in range(12)]
    alone = [runtime(clip) for clip in clips]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(runtime, clips))
    for got, wanted in zip(together, alone):
        assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("format, precision, most", [("openvino", "float16", 0.01), ("openvino", "bfloat16", 0.05),
                                                     ("torch", "bfloat16", 0.05)])
def test_16_bits_are_close_and_float16_files_are_half_as_large(model, exported, format, precision, most):
    options = ExportOptions(precision=precision, with_preprocessing=True, features=True)
    small = (to_openvino(exported["onnx"], precision) if format == "openvino" else export_model(model, format, options))
    assert small.info.precision == precision
    agreement = compare_with_torch(as_clip(small), model, small.info)
    assert agreement.logit < most
    half = (format, precision) != ("openvino", "bfloat16")  # whose weights are rounded when they are loaded
    assert small.size < (0.55 if half else 1.1) * exported[format].size


def test_int8_is_close_and_a_quarter_of_the_size(model, exported):
    """Calibrated on one half of the clips, compared on all. Random weights amplify rounding far more than trained ones."""
    clips, large = panned_photo(exported["onnx"].info), exported["onnx"]
    small = quantize_clips(large, clips[:2])
    assert small.info == replace(large.info, precision="int8", versions=small.info.versions)
    wanted = TorchClip(model)(clips)
    for format in (small, to_openvino(small, "int8")):
        assert format.size < 0.4 * large.size and format.info.precision == "int8"
        assert 0 < float((as_clip(format)(clips) - wanted).abs().max()) < 0.3 * float(wanted.abs().max())
    with pytest.raises(UserError, match="already int8"):
        quantize_clips(small, clips)
    with pytest.raises(UserError, match="the given sources have none"):
        quantize_clips(large, [])


# ---- what the files say -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_is_moved_says_what_it_is(model, exported, written, tmp_path, format):
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in files_of(written[format]):
        file.rename(moved / file.name)
    path = moved / written[format].name
    info = read_exported(path).info
    assert info == exported[format].info
    assert (info.kind, info.class_names, info.dataset, info.features) == ("clip", list("abcde"), "letters", 512)
    assert info.spec == model.spec and info.preprocessing == model.preprocessing and "torch" in info.versions
    assert compare_with_torch(open_clip(path), model, info).top1 == 100
    content = path.read_bytes()
    assert b"site-packages" not in content and b"/ops/" not in content, "no paths of this machine"


def test_only_standard_operators_are_used(exported):
    model = onnx.load_from_string(exported["onnx"].content)
    assert {node.domain for node in model.graph.node} == {""} and not model.functions
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]


# ---- what is refused --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("format", FORMATS)
def test_wrong_inputs_are_one_line(exported, format):
    runtime = as_clip(exported[format])
    clips = noise(runtime.info)
    for wrong, words in ((clips.float(), "clips of type float32: this model takes uint8"),
                         (clips[:, :6], r"shape \(4, 6, 32, 32\): this model was exported for \(clips, 9, 32, 32\)"),
                         (clips[..., :16], "this model was exported for"), (clips[:0], "this model was exported for")):
        with pytest.raises(UserError, match=words):
            runtime(wrong)
    with pytest.raises(UserError, match="frames of type float32: this model takes uint8"):
        runtime.engine.run([torch.zeros(1, T, SIZE, SIZE, 3)])
    with pytest.raises(UserError, match="2 inputs, but this model takes 1: frames"):
        runtime.engine.run([clips, clips])


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_one_line(exported, written, format):
    path = written[format]
    for content in (b"", path.read_bytes()[:2000], b"not a model", path.read_bytes().replace(b"letters", b"lettres")):
        path.write_bytes(content)
        try:
            with pytest.raises(UserError, match="tools/export.py"):
                open_clip(path)(noise(exported[format].info))
                assert content.count(b"lettres"), "only the name of the data set may differ"
                raise UserError("tools/export.py")
        finally:
            write_exported(exported[format], path)
    for file in files_of(path):
        file.unlink()
    with pytest.raises(UserError, match="cannot read .*No such file"):
        open_clip(path)


def test_metadata_of_another_model_is_refused(exported):
    other = replace(exported["openvino"].info, features=0)
    with pytest.raises(UserError, match="the outputs of the exported model are not those of its metadata"):
        as_clip(describe(exported["openvino"], other))(noise(other))
    spec = exported["onnx"].info.spec.with_(num_class=6)
    wrong = describe(exported["onnx"], replace(exported["onnx"].info, spec=spec, class_names=None))
    with pytest.raises(UserError, match="its outputs are not the graph's"):
        read_back(wrong)


def test_a_step_is_wanted(written):
    with pytest.raises(UserError, match="this is an exported clip model"):
        open_step(written["onnx"])


def read_back(model, path=None):
    import tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"model{FORMATS[model.format]}"
        write_exported(model, path)
        return read_exported(path)


# ---- files that could run code ----------------------------------------------------------------------------------

def test_weights_in_other_files_are_not_read(exported):
    model = onnx.load_from_string(exported["onnx"].content)
    value = max(model.graph.initializer, key=lambda value: len(value.raw_data))
    onnx.external_data_helper.set_external_data(value, "../../etc/passwd")
    value.ClearField("raw_data")
    hidden = onnx.load_from_string(exported["onnx"].content)  # not among the weights, but in a node
    constant = hidden.graph.node.add(op_type="Constant", output=["unused"]).attribute.add(name="value", type=4)
    constant.t.CopyFrom(value)
    for wrong in (model, hidden):
        with pytest.raises(UserError, match="the values of .* are in another file, which is not read"):
            read_back(replace(exported["onnx"], content=wrong.SerializeToString()))


def test_an_xml_file_that_defines_entities_is_refused(exported):
    content = exported["openvino"].content
    bomb = content.replace(b"?>", b'?><!DOCTYPE net [<!ENTITY a "b">]>', 1)
    with pytest.raises(UserError, match="not a readable OpenVINO file .it has a document type"):
        read_back(replace(exported["openvino"], content=bomb))
    assert ElementTree.fromstring(content).find("rt_info/tsm") is not None


def changed_program(exported, change):
    """The .pt2 file with another program in it, made by `change` from the parsed one."""
    def entry(name, content):
        if not name.endswith("models/model.json"):
            return content
        program = json.loads(content)
        change(program)
        return json.dumps(program).encode()
    return changed_archive(exported, entry)


def nodes_of(program):
    return program["graph_module"]["graph"]["nodes"]


def changed_archive(exported, entry, more=()):
    copy = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(exported.content)) as source, zipfile.ZipFile(copy, "w") as target:
        for name in source.namelist():
            target.writestr(name, entry(name, source.read(name)))
        for name, content in more:
            target.writestr(name, content)
    return ExportedModel("torch", copy.getvalue(), exported.info)


@pytest.mark.parametrize("change, words", [
    (lambda program: nodes_of(program)[-1].update(target="torch.os.system"), "it calls 'torch.os.system'"),
    (lambda program: nodes_of(program)[0].update(metadata={"stack_trace": "x"}), "have metadata"),
    (lambda program: program.update(guards_code=["__import__('os').system('true')"]), "guards in Python"),
    (lambda program: program["range_constraints"].update({"s0, __import__('os')": {}}), "a name is"),
    (lambda program: program.update(verifiers=["x = print()"]), "verifiers is 'x = print"),
    (lambda program: program.update(expr_str="__import__('os').system('true')"), "expr_str is"),
])
def test_a_program_with_foreign_code_is_not_loaded(exported, change, words):
    with pytest.raises(UserError, match=f"could run code: .*{words}"):
        read_back(changed_program(exported["torch"], change))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_pickles_or_libraries_is_not_loaded(exported, tmp_path):
    proof = tmp_path / "proof"

    class Evil:
        def __reduce__(self):
            return (open, (str(proof), "w"))
    pickled = io.BytesIO()
    torch.save(Evil(), pickled)

    def with_samples(name, content):
        return pickled.getvalue() if name.endswith("sample_inputs/model.pt") else content

    def with_pickle(name, content):
        return (content.replace(b'"use_pickle": false', b'"use_pickle": true', 1)
                if name.endswith("model_weights_config.json") else content)
    same = changed_archive(exported["torch"], lambda name, content: content)
    assert read_back(same).info == exported["torch"].info
    for wrong, words in ((changed_archive(exported["torch"], with_samples), "no plain tensors"),
                         (changed_archive(exported["torch"], with_pickle), "names pickled objects"),
                         (changed_archive(exported["torch"], lambda name, content: content,
                                          [("archive/data/aotinductor/model/model.so", b"")]), "it has a file"),
                         (changed_archive(exported["torch"], lambda name, content: content,
                                          [("archive/models/model.json", b"{}")]), "it has a file")):  # a second one
        with pytest.raises(UserError, match=f"could run code: .*{words}"):
            read_back(wrong)
    assert not proof.exists()
