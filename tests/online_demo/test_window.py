"""The canvas and the window: drawing, keys on SDL's dummy screen, and real key presses on a virtual screen."""
import glob
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image, ImageGrab

from online_demo import window as window_module
from online_demo.window import (
    BACK,
    NO_PREDICTION,
    TRACK,
    NoWindow,
    View,
    Window,
    _label_lines,
    _Pen,
    canvas_size,
    color_of,
    draw,
    fit,
)
from ops.streaming.stream import Stream
from tests.helpers.clips import clip, coded_image, encode
from tests.helpers.programs import run
from tests.helpers.streaming import NAMES, camera, served


def half_and_half(width=640, height=480):
    """A frame, red on the left and blue on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :width // 2, 0] = image[:, width // 2:, 2] = 200
    return image


# ---- drawing ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("source, size", [
    ((640, 480), (980, 564)), ((176, 144), (926, 564)), ((1920, 1080), (1790, 846)), ((480, 640), (934, 752)),
    ((5000, 100), (1194, 564)), ((100, 5000), (916, 846))])
def test_canvas_sizes(source, size):
    assert canvas_size(*source) == size
    image = half_and_half(*source)
    canvas = draw(image, View(NAMES), size)
    assert canvas.shape == (size[1], size[0], 3) and canvas.dtype == np.uint8


def test_bars_are_as_long_as_the_probabilities():
    scores = np.array([0.1, 0.5, 0.15, 0.25])
    view = View(NAMES, topk=3)
    view.add(1.0, 1, scores)
    panel = draw(half_and_half(), view, (980, 564))[:480, 640:]
    inner = 340 - 2 * 18
    rows = [panel[18 + 72 + 48 * row + 29] for row in range(4)]  # through the middle of each bar
    for row, label in zip(rows, [1, 3, 2]):
        colored = (np.abs(row.astype(int) - color_of(label)).max(1) < 3).sum()
        track = (np.abs(row.astype(int) - TRACK).max(1) < 3).sum()
        assert abs(colored - inner * scores[label]) <= 3 and abs(colored + track - inner) <= 3
    assert (rows[3] == BACK).all()  # no fourth class


def test_mirroring_changes_the_frame_only():
    view = View(NAMES)
    view.add(0.0, 1, np.array([0.1, 0.5, 0.15, 0.25]))
    plain = draw(half_and_half(), view, (980, 564))
    view.mirror = True
    mirrored = draw(half_and_half(), view, (980, 564))
    assert (plain[240, 100] == [200, 0, 0]).all() and (mirrored[240, 100] == [0, 0, 200]).all()
    assert (plain[:480, :640][:, ::-1] == mirrored[:480, :640]).all()
    assert (plain[:480, 640:] == mirrored[:480, 640:]).all() and (plain[480:] == mirrored[480:]).all()


def test_the_history_is_colored_over_time():
    view = View(NAMES)
    scores = np.full(4, 0.25)
    for seconds, prediction in [(0, 3), (90, 0), (94, 0), (95, None), (97.5, 2)]:
        view.add(seconds, prediction, scores)
    view.now = 100.0
    strip = draw(half_and_half(), view, (980, 564))[480 + 14]  # above the names

    def at(seconds):
        return strip[round(18 + (980 - 36) * (1 - (100 - seconds) / 20))].tolist()
    wanted = {81: color_of(3), 89: color_of(3), 91: color_of(0), 94: color_of(0), 96: NO_PREDICTION, 97: NO_PREDICTION,
              98: color_of(2), 99.5: color_of(2)}
    assert {seconds: at(seconds) for seconds in wanted} == {k: list(v) for k, v in wanted.items()}
    for second in range(1000):
        view.add(100 + second / 10, second % 3, scores)
    assert len(view.history) <= 202  # the history stays bounded
    assert len({color_of(label) for label in range(27)}) == 27


@pytest.mark.parametrize("width, size, lines", [
    (300, 13, ["Turning Hand Counterclockwise"]), (130, 11, ["Turning Hand", "Counterclockwise"]),
    (95, 11, ["Turning Hand", "Counterclockwise"]), (60, 11, [])])
def test_names_in_the_history_are_broken_into_lines(width, size, lines):
    assert _label_lines(_Pen(10, 10, 1.0), "Turning Hand Counterclockwise", width) == (size, lines)


def test_names_of_short_bars_are_drawn():
    def dark(name):
        view = View([name] * 2)
        view.add(0.0, 0, np.full(2, 0.5))
        view.add(2.5, 1, np.full(2, 0.5))
        view.now = 5.0
        bar = draw(half_and_half(), view, (980, 564))[480 + 12:480 + 44, 980 - 18 - 110:980 - 20]
        return int((bar.max(2) < 60).sum())
    assert dark("Zooming Out") > 100 and dark("Turning Hand Clockwise") > 100 and dark("Unpronounceablenamesofclasses") == 0


@pytest.mark.parametrize("size, room, box", [
    ((100, 100), (100, 60), (20, 0, 60, 60)), ((100, 60), (100, 60), (0, 0, 100, 60)),
    ((50, 30), (50, 60), (0, 15, 50, 30)), ((400, 200), (100, 60), (0, 5, 100, 50)),
    ((9, 900), (60, 60), (29, 0, 1, 60))])
def test_fitting_keeps_the_aspect_ratio(size, room, box):
    left, top, columns, rows = box
    fitted = fit(np.full((size[1], size[0], 3), 90, np.uint8), *room)
    inside = np.zeros(fitted.shape[:2], bool)
    inside[top:top + rows, left:left + columns] = True
    assert fitted.shape == (room[1], room[0], 3)
    assert (fitted[inside] == 90).all() and (fitted[~inside] == 0).all()


def test_long_names_are_shortened():
    names = ["Pushing something from right to left, again and again and again"] * 4
    view = View(names)
    view.add(0.0, 0, np.full(4, 0.25))
    right = draw(half_and_half(), view, (980, 564))[:480, 980 - 12:]
    assert (right == BACK).all()  # nothing reaches into the margin
    assert (draw(half_and_half(), View(NAMES), (980, 564))[:480, 660:] != BACK).any()  # before the first prediction


# ---- the window ---------------------------------------------------------------------------------------------

@pytest.fixture
def press_after(monkeypatch):
    """press_after({3: "m"}): press m once the window has shown its third canvas."""
    def press_after(keys):
        pygame = pytest.importorskip("pygame", reason="the window needs pygame: pip install -r requirements-demo.txt")
        names = {"esc": pygame.K_ESCAPE, **{letter: getattr(pygame, f"K_{letter}") for letter in "qfrmsx"}}
        shown, show = [], Window.show

        def counted(self, canvas):
            show(self, canvas)
            shown.append((canvas, self._screen.get_size(), self.fullscreen))
            if key := keys.get(len(shown)):
                event = (pygame.event.Event(pygame.QUIT) if key == "close"
                         else pygame.event.Event(pygame.KEYDOWN, key=names[key]))
                pygame.event.post(event)
        monkeypatch.setattr(Window, "show", counted)
        return shown
    return press_after


@pytest.fixture
def play(monkeypatch, capfd, weights):
    return lambda *flags: run(monkeypatch, capfd, "online_demo.main", *flags, "--weights", weights)


def test_keys_on_the_dummy_screen(tmp_path, monkeypatch, play, press_after):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.chdir(tmp_path)
    path = encode(tmp_path / "v.mp4", [half_and_half(64, 64)] * 500)
    shown = press_after({3: "s", 5: "m", 7: "s", 9: "x", 11: "f", 13: "f", 15: "q"})
    begin = time.perf_counter()
    done = play(path, "--topk", "2")
    assert done.status == 0 and done.out == "" and time.perf_counter() - begin < 15
    assert 15 <= len(shown) <= 16
    snapshots = [np.asarray(Image.open(name)) for name in sorted(glob.glob("snapshot_*.png"))]
    assert [line.split("snapshot: ")[1] for line in done.err.splitlines() if "snapshot" in line] == [
        str(tmp_path / name) for name in sorted(glob.glob("snapshot_*.png"))]
    plain, mirrored = snapshots
    assert (plain == shown[2][0]).all() and plain[240, 100, 0] > 150 > 50 > mirrored[240, 100, 0]
    assert (mirrored == shown[6][0]).all() and mirrored[240, 100, 2] > 150
    assert [fullscreen for _, _, fullscreen in shown[10:14]] == [False, True, True, False]
    assert [size for _, size, _ in shown[10:13]] == [(820, 564), (1024, 768), (1024, 768)]


def test_r_resets_the_stream(tmp_path, monkeypatch, capfd, play, press_after):
    """With the same frame for ever, the first decision after r equals the very first one."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    path = encode(tmp_path / "v.mp4", [coded_image(5)] * 100)
    press_after({4: "r", 8: "esc"})
    decided, push = [], Stream.push
    monkeypatch.setattr(Stream, "push", lambda self, frames: decided.append(push(self, frames)) or decided[-1])
    done = play(path, "--rate", "1000", "--smooth", "none")
    assert done.status == 0
    seen = [decisions[0].frame for decisions in decided]
    again = seen.index(1, 1)
    assert seen[:again] == list(range(1, again + 1)) and seen[again:] == list(range(1, len(seen) - again + 1))
    assert decided[again][0].probability == pytest.approx(decided[0][0].probability, abs=0.02)
    assert len(seen) > again + 1 and again >= 2


@pytest.mark.parametrize("key", ["esc", "close"])
def test_the_window_is_mirrored_and_closed(tmp_path, monkeypatch, play, press_after, key):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown = press_after({4: key})
    with served(cam=camera(lambda: itertools.repeat(half_and_half(96, 64), 300), 0.03)) as url:
        done = play(f"{url}/cam", "--mirror", "--fullscreen", "--output", tmp_path / "o.mp4")
    assert done.status == 0 and len(shown) <= 5 and (tmp_path / "o.mp4").stat().st_size > 1000
    canvas, _, fullscreen = shown[0]
    assert canvas[240, 100, 2] > 150 > 50 > canvas[240, 100, 0] and fullscreen


@pytest.mark.parametrize("why, words", [("screen", "there is no display"), ("pygame", "pip install -r requirements"),
                                        ("driver", "there is no display ("),
                                        ("server", "the display :4242 does not answer")])
def test_without_a_screen_the_demo_continues_and_warns_once(tmp_path, monkeypatch, play, why, words):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    if why == "pygame":
        monkeypatch.setitem(sys.modules, "pygame", None)
    elif why == "server":
        pytest.importorskip("pygame", reason="without pygame, that is the reported reason")
        monkeypatch.setenv("DISPLAY", ":4242")
    elif why == "driver":
        pytest.importorskip("pygame", reason="without pygame, its driver reports nothing")
        monkeypatch.setenv("SDL_VIDEODRIVER", "no_such_driver")
    elif sys.platform != "linux":
        pytest.skip("other systems always have a screen")
    else:
        pytest.importorskip("pygame", reason="without pygame, that is the reported reason")
    done = play(clip(tmp_path / "v.mp4", 25))
    assert done.status == 0 and done.err.count("no window: ") == 1 and words in done.err
    assert done.out.splitlines()[0].split("  ")[-2].strip() in NAMES  # a line per change of the answer, for people
    assert len(done.out.splitlines()) < 12


@pytest.fixture
def screen(monkeypatch):
    """Start a virtual X screen of 1280x800; yields its name."""
    pytest.importorskip("pygame", reason="the window needs pygame: pip install -r requirements-demo.txt")
    for program, package in (("Xvfb", "xvfb"), ("xdotool", "xdotool")):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on this machine: apt install {package}")
    reading, writing = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x800x24"],
                              pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    name = f":{os.read(reading, 16).decode().strip()}"
    monkeypatch.setenv("DISPLAY", name)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    yield name
    server.terminate()
    server.wait(10)
    os.close(reading)


def test_real_keys_on_a_virtual_screen(tmp_path, monkeypatch, screen, play):
    """Press f, s, m, f, r and q, starting in full screen, and compare screenshots in between."""
    monkeypatch.chdir(tmp_path)
    path = encode(tmp_path / "v.mp4", [half_and_half(96, 64)] * 1500)
    size, show = [], Window.show  # of the window, each time that something is shown
    monkeypatch.setattr(Window, "show", lambda self, canvas: (show(self, canvas), size.append(
        self._screen.get_size())))
    looks = {}

    def look():
        return np.asarray(ImageGrab.grab(xdisplay=screen).convert("RGB")).astype(int)

    def press(key, done):
        """Press the key and wait for its effect; repeat, because the window may not have the keyboard focus yet."""
        for _ in range(20):
            subprocess.run(["xdotool", "key", key], check=True)
            for _ in range(10):
                time.sleep(0.1)
                if done():
                    return time.sleep(0.3)
        raise AssertionError(f"{key} does nothing")

    def at_the_keyboard():
        try:
            while len(size) < 3:
                time.sleep(0.1)
            looks["full"] = look()
            press("f", lambda: size[-1] == (1060, 564))
            press("s", lambda: glob.glob("snapshot_*.png"))
            looks["window"] = look()
            left = [np.argwhere((looks["window"] > 150).any(2)).min(0) + (240, 100)]  # a place in the left half
            press("m", lambda: look()[tuple(left[0])][2] > 150)
            looks["mirrored"] = look()
            press("f", lambda: size[-1] == (1280, 800))
        finally:
            subprocess.run(["xdotool", "key", "r", "q"], check=True)

    person = threading.Thread(target=at_the_keyboard)
    person.start()
    done = play(path, "--fullscreen")
    person.join(10)
    assert done.status == 0 and "no window" not in done.err
    assert set(size) == {(1060, 564), (1280, 800)}
    top = round((800 - 564 * 1280 / 1060) / 2)  # the drawing fills the width
    full = looks["full"]
    assert (full[:top - 2] == 0).all() and (np.abs(full[top + 300, 100] - [200, 0, 0]) < 12).all()
    assert (full[top + 20:, -3:] == BACK).all(2).any()

    snapshot = np.asarray(Image.open(glob.glob("snapshot_*.png")[0]))
    assert snapshot.shape == (564, 1060, 3)
    y, x = np.argwhere((looks["window"] > 150).any(2)).min(0)
    assert (looks["window"][y:y + 480, x:x + 720] == snapshot[:480, :720]).all()  # in the right colors, too
    assert (np.abs(looks["mirrored"][y + 240, x + 100] - [0, 0, 200]) < 12).all()


def test_a_window_needs_a_screen(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(window_module.sys, "platform", "linux")
    with pytest.raises(NoWindow, match="no display|pygame is not installed"):
        Window()
