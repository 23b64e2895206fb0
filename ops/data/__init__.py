"""Videos as training and test samples: list files, frame sampling, transforms and batches."""
from ops.common.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, {
    "TSNDataSet": "tsn_dataset", "VideoRecord": "list_files", "read_list": "list_files", "ClipSampler": "sampling",
    "Preprocessing": "preprocessing", "TestProtocol": "test_protocol", "TrainingCrop": "training_crop",
    "make_loader": "loader",
})
