"""The names and numbers that flags and the library share, without slow imports: flags are read before torch is imported."""

MODALITIES = ("RGB", "Flow", "RGBDiff")
CONSENSUS_TYPES = ("avg", "identity")
DIRECTIONS = ("bidirectional", "unidirectional")
NON_LOCAL_TYPES = ("embedded_gaussian", "gaussian", "dot_product")
DATA_FORMATS = ("auto", "frames", "video", "shards")
PRECISIONS = ("float32", "bfloat16", "int8")  # of a runtime's computation
SMOOTHINGS = ("published", "none")  # of a stream's predictions
FRAME_RATE = 12.0  # frames per second where a file does not name it: that of Jester's and Something-Something's videos
