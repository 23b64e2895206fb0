"""Training: a state and a loader in, checkpoints and a log out."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "LoopOptions": "loop", "fit": "loop", "train_one_epoch": "loop", "TrainState": "state", "describe_run": "state",
    "RunLog": "run_log", "read_log": "run_log", "SCHEDULES": "schedule", "training_set": "train_set",
    "validation_set": "train_set"})
