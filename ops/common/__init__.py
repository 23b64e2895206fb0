"""Errors, files, processes, devices and command lines: what every room uses; imports nothing of ours."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "UserError": "errors", "CannotWrite": "files", "atomic_write": "files", "check_writable": "files",
    "whole_file": "files", "Parser": "cli", "run": "cli", "pick_device": "device", "seed_everything": "device",
    "AverageMeter": "meters", "accuracy": "meters",
})
