"""What the demo's tests run on: a small random model, a real HTTP server with files and a camera."""
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
    """A clip checkpoint of ours: ResNet-18 at 64 pixels, unidirectional, random, four classes that differ."""
    torch.manual_seed(0)
    settings = ModelSpec(len(NAMES), 8, arch="resnet18", shift=True, shift_direction="unidirectional",
                         input_size=64)
    model = TSN.from_spec(settings)
    model.new_fc.weight.data.mul_(60)  # or every class has a probability of a quarter
    save_checkpoint({"epoch": 1, "arch": "resnet18", "settings": settings.to_dict(), "class_names": NAMES,
                     "state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}, **extra},
                    path)
    return path


def assert_no_capture_left(seconds=5.0):
    """The demo's reading threads are over, and with them whatever of a codec or camera they held."""
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
    """One image of an MJPEG camera's answer."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    content = file.getvalue()
    return b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(content), content)


def camera(images, seconds=0.0, stays=None):
    """Answers with these images, `seconds` apart, and then ends; with `stays` (an Event) only once that is set."""
    def answer(request):
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
        request.end_headers()
        for image in images():
            request.wfile.write(jpeg_part(image))
            time.sleep(seconds)
        if stays is not None:
            stays.wait(20)
    return answer


def file(content, breaks=()):
    """Answers with a file's bytes, also with a part of them. breaks: after how many bytes the first answers end."""
    breaks = list(breaks)

    def answer(request):
        begin = int((re.match(r"bytes=(\d+)-", request.headers.get("Range", "")) or [0, 0])[1])
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", len(content) - begin)
        request.end_headers()
        request.wfile.write(content[begin:breaks.pop(0) if breaks else None])
    return answer


@contextmanager
def served(**answers):
    """The address of a local server; the first part of a path picks the answer."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.split("/")[1].split(".")[0]
            try:
                answers[name](self) if name in answers else self.send_error(404)
            except OSError:
                pass  # the demo hung up
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
