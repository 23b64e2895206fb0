"""The names and numbers that flags and the library share, without slow imports: flags are read before torch is imported."""
import difflib
from typing import Iterable, Optional

MODALITIES = ("RGB", "Flow", "RGBDiff")
CONSENSUS_TYPES = ("avg", "identity")
DIRECTIONS = ("bidirectional", "unidirectional")
NON_LOCAL_TYPES = ("embedded_gaussian", "gaussian", "dot_product")
DATA_FORMATS = ("auto", "frames", "video", "shards")
PRECISIONS = ("float32", "bfloat16", "int8")  # of a runtime's computation
# Of an exported file: the name of the flag -> of the metadata.
EXPORT_PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
# Format of an exported file -> how its name ends.
EXPORT_FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2", "litert": ".tflite"}
LOSSES = ("nll", "smooth")
BEST_BY = ("top1", "mean_class", "loss", "map")  # the measure of the best epoch
AMP = ("auto", "off", "bf16", "fp16")  # mixed precision of training
NO_TRACKER, *TRACKERS = ("none", "wandb", "trackio", "mlflow")
FEATURES_PER = ("clip", "frame", "stream")
SMOOTHINGS = ("published", "none")  # of a stream's predictions
MOST = 10_000  # frames of a clip, pixels of a side: more are a mistake, and would fill the memory before they fail
FRAME_RATE = 12.0  # frames per second where a file does not name it: that of Jester's and Something-Something's videos


def find_choice(text: str, names: Iterable[str]) -> Optional[str]:
    """The name that `text` is, or the only one that it is but for upper and lower case; None for any other text."""
    names = list(names)
    alike = [name for name in names if name.casefold() == text.casefold()]
    return text if text in names else alike[0] if len(alike) == 1 else None


def suggestion(text: str, names: Iterable[str], prefix: str = "") -> str:
    """`; did you mean NAME?` for the end of a message about a wrong name; "" where no name is similar.

    prefix: what `text` and `names` have in common and are not compared by, such as the dashes of flags.
    """
    by_folded = {name.casefold().removeprefix(prefix): name for name in names}
    near = difflib.get_close_matches(text.casefold().removeprefix(prefix), list(by_folded), n=1, cutoff=0.6)
    return f"; did you mean {by_folded[near[0]]}?" if near else ""
