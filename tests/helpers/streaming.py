"""Helpers of the demo's tests: a small random model, and an HTTP server with files and cameras."""
import io
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import numpy as np
import torch
from PIL import Image

from ops.models import TSN
from ops.spec import ModelSpec
from ops.weights import save_checkpoint

NAMES = ["Left", "Right", "Up", "Down"]
FAST_START = {"container_options": {"movflags": "faststart"}}  # for `encode`: the MP4's index comes first


def make_weights(path, **extra):
    """Write a clip checkpoint: random unidirectional ResNet-18 at 64 pixels whose four classes get different scores."""
    torch.manual_seed(0)
    spec = ModelSpec(len(NAMES), 8, arch="resnet18", shift=True, shift_direction="unidirectional", input_size=64)
    model = TSN.from_spec(spec)
    model.new_fc.weight.data.mul_(60)  # otherwise every class has a probability near 1/4
    save_checkpoint({"epoch": 1, "arch": "resnet18", "settings": spec.to_dict(), "class_names": NAMES,
                     "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}, **extra},
                    path)
    return path


def assert_no_capture_left(seconds=5.0):
    """The demo's capture threads have ended, and with them the codecs and cameras they held."""
    threads = [thread for thread in threading.enumerate() if thread.name == "capture"]
    for thread in threads:
        thread.join(seconds)
    assert not any(thread.is_alive() for thread in threads)


def decoded(path):
    """(times, images (T, H, W, 3) RGB) of a video file."""
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return [time for time, _ in frames], np.stack([image for _, image in frames])


def plug_in(monkeypatch, video):
    """Let OpenCV read this video file instead of any camera. Returns the (index, API) of each camera opened."""
    opened, read = [], cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda index, api: opened.append((index, api)) or read(str(video)))
    return opened


def jpeg_part(image):
    """One frame of an MJPEG camera's response."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    content = file.getvalue()
    return b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(content), content)


def camera(images, seconds=0.0, stays=None):
    """A response of these frames, `seconds` apart. stays: an Event that ends the response; None: it ends by itself."""
    def respond(request):
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
        request.end_headers()
        for image in images():
            request.wfile.write(jpeg_part(image))
            time.sleep(seconds)
        if stays is not None:
            stays.wait(20)
    return respond


def file(content, breaks=()):
    """A response of a file's bytes, or the requested range. breaks: byte offsets at which the first responses end."""
    breaks = list(breaks)

    def respond(request):
        begin = int((re.match(r"bytes=(\d+)-", request.headers.get("Range", "")) or [0, 0])[1])
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", len(content) - begin)
        request.end_headers()
        request.wfile.write(content[begin:breaks.pop(0) if breaks else None])
    return respond


@contextmanager
def served(**responses):
    """The URL of a local server; the first part of a path selects the response."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.split("/")[1].split(".")[0]
            try:
                responses[name](self) if name in responses else self.send_error(404)
            except OSError:
                pass  # the client hung up
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
