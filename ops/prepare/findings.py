"""What a check of a data set can find. Apart from the check itself, which needs OpenCV and PyAV: the kinds are choices."""
from ops.data.list_files import LINE_FORM

# The kinds of findings, in the order of the report, with their meanings.
KINDS = {
    "line": f"not in the form: {LINE_FORM}",
    "label": "a label outside the classes, or of a different class than the video's directory or its other line",
    "missing": "no such directory or file, or no frame with the expected name",
    "empty": "the directory, frame or video file is empty",
    "truncated": "a frame, or the video file, ends early",
    "unreadable": "cannot be decoded",
    "index_base": "frames are numbered from 0; they must be numbered from 1",
    "gap": "a frame is missing before the last one",
    "sizes": "one video has frames of different sizes",
    "count": "the list has a different number of frames than the video",
    "short": "fewer frames than a clip has segments",
    "color": "images that are not RGB (the loader converts them)",
    "duplicate": "the same video twice in a list",
    "leak": "the same video in two lists",
    "recording": "clips of two lists that share frames, as if cut from one recording: split by recording instead (see"
                 " tools/make_dataset.py)",
}
