"""The published import path of the data set; the code is in `ops.data`."""
from ops.data.list_files import VideoRecord
from ops.data.tsn_dataset import TSNDataSet

__all__ = ["TSNDataSet", "VideoRecord"]
