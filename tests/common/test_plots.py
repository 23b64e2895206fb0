"""The charts: the data, colors and labels of their figures, and the files they become."""
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from ops.common import plots
from ops.common.errors import UserError
from ops.common.plots import Panel, draw_accuracy, draw_confusion, draw_stream, draw_timelines, draw_training
from tests.conftest import ROOT
from tests.helpers.charts import bars_of, lines_of, names_of


def panel(title="v", names=("a", "b"), windows=4):
    """`windows` windows of one second, of the first class with probability 0.75."""
    return Panel(title, list(range(windows + 1)), [names[0]] * windows,
                 {name: [0.25 if i else 0.75] * windows for i, name in enumerate(names)})


# ---- files ----------------------------------------------------------------------------------------------------

def test_a_figure_becomes_a_whole_png_file(tmp_path):
    plots.save_png(draw_confusion(np.eye(2, dtype=int), ["a", "b"]), tmp_path / "new" / "c.png")
    with Image.open(tmp_path / "new" / "c.png") as image:
        assert image.format == "PNG" and image.convert("RGB").getcolors(2 ** 16) is not None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["c.png"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*/file/c.png: "):
        plots.save_png(draw_confusion(np.eye(2, dtype=int), ["a", "b"]), tmp_path / "file" / "c.png")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [["$5 and $6", r"$\undefined$"], ["手を振る", "größer"], ["", "_hidden"]])
def test_any_class_name_is_drawn_as_it_is(names):
    figure = draw_confusion(np.array([[3, 1], [0, 2]]), names)
    assert names_of(figure.axes[0].get_xticklabels()) == names
    plots.png_bytes(figure)
    plots.png_bytes(draw_timelines([panel(names[0], names)]))
    spans = [(0.0, 9.0, names[0]), (9.0, 20.0, names[1])]
    plots.png_bytes(draw_stream(spans, spans, recognised=[True, False], seconds=20, class_names=names))


def test_charts_leave_matplotlibs_settings_alone():
    before = {key: matplotlib.rcParams[key] for key in plots.STYLE}
    plots.png_bytes(draw_accuracy(np.array([50.0]), np.array([2]), videos=2, stride=1))
    assert {key: matplotlib.rcParams[key] for key in plots.STYLE} == before != plots.STYLE


def test_a_program_that_draws_nothing_does_not_load_matplotlib():
    code = "import sys; import ops.common.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# ---- confusion matrix -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("count", [2, 8, 30, 31, 174])
def test_each_cell_shows_its_share_of_its_row(count):
    confusion = np.random.default_rng(count).integers(0, 9, (count, count))
    confusion[1] = 0  # a class without videos
    names = [f"class {i}" for i in range(count)]
    axes, *colorbar = draw_confusion(confusion, names).axes
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image, = axes.images
    assert np.array_equal(image.get_array(), share)
    colors = image.to_rgba(np.array([0.0, 1.0]))[:, :3] * 255
    assert colors == pytest.approx(np.array([[247, 251, 255], [8, 48, 107]]))  # white to dark blue
    if count <= 30:
        assert names_of(axes.get_xticklabels()) == names_of(axes.get_yticklabels()) == names and not colorbar
        counts = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
        assert counts == {(row, column): str(confusion[row, column]) for row, column in np.argwhere(confusion)}
        assert all((text.get_color() == "white") == (share[text.get_position()[::-1]] > 0.5) for text in axes.texts)
    else:  # no room for names and counts
        assert not axes.texts and len(colorbar) == 1 and not set(names) & set(names_of(axes.get_xticklabels()))


# ---- curves ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("frames", [1, 4, 61, 2000])
def test_accuracy_over_time(frames):
    top1 = np.linspace(10, 90, frames)
    running = np.linspace(8, 2, frames).astype(int)
    axes, = draw_accuracy(top1, running, videos=8, stride=5).axes
    lines = lines_of(axes)
    accuracy, = (points for label, points in lines.items() if label.startswith("top-1"))
    assert accuracy == list(zip(range(1, frames + 1), top1.tolist()))
    assert lines["videos still running, %"] == list(zip(range(1, frames + 1), (100 * running / 8).tolist()))
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= 100 and "every 5 frames" in axes.get_xlabel()
    assert any(f"{top1[0]:.1f} after the first frame, {top1[-1]:.1f} at the end (8 videos)" in label for label in lines)
    assert all(tick == round(tick) for tick in axes.get_xticks()) and 1 <= len(axes.get_xticks()) <= 13


def test_training_curves():
    logs = {"A": [{"epoch": 0, "train_top1": 10, "val_top1": 12}, {"epoch": 1, "train_top1": 20},
                  {"epoch": 2, "train_top1": 30, "val_top1": 33}], "B": [{"epoch": 0, "train_top1": 5, "val_top1": 6}]}
    axes, = draw_training(logs, {"A": "red", "B": "blue"}).axes
    assert lines_of(axes) == {"A, training": [(1, 10), (2, 20), (3, 30)], "A, validation": [(1, 12), (3, 33)],
                              "B, training": [(1, 5)], "B, validation": [(1, 6)]}
    assert {line.get_label(): (line.get_color(), line.get_linestyle()) for line in axes.lines} == {
        "A, training": ("red", "--"), "A, validation": ("red", "-"), "B, training": ("blue", "--"),
        "B, validation": ("blue", "-")}


# ---- timelines ------------------------------------------------------------------------------------------------

def test_a_timeline_shows_the_best_class_above_each_classs_probability():
    edges = [0.0, 1.5, 2.5, 3.25, 4.5]
    a = [0.9, 0.7, 0.0, 1.0]
    axes, = draw_timelines([Panel("clip.mp4", edges, ["a", "a", "b", "c"], {"a": a, "b": [0.1, 0.3, 0.6, 0.0]})]).axes
    best = bars_of(axes, "best")
    assert [(start, end) for start, end, _ in best] == list(zip(edges, edges[1:]))
    colors = [color for _, _, color in best]
    assert colors[0] == colors[1] != colors[2] and colors[3] == "#5a5a5a"  # c has no row
    rows = bars_of(axes, "a")
    assert [(start, end) for start, end, _ in rows] == list(zip(edges, edges[1:]))
    assert rows[3][2] == colors[0]  # probability 1: the class's own color
    brightness = [sum(to_rgb(color)) for _, _, color in rows]
    assert sorted(brightness, reverse=True) == [brightness[i] for i in np.argsort(a)]  # the likelier, the darker
    assert names_of(axes.get_yticklabels()) == ["best", "a", "b"] and axes.get_title(loc="left") == "clip.mp4"


@pytest.mark.parametrize("seconds, step", [(0.3, 0.05), (1, 0.1), (4.5, 0.5), (10, 1), (61, 10), (3600, 500)])
def test_seconds_have_at_most_ten_round_steps(seconds, step):
    axes, = draw_timelines([Panel("v", [0.0, seconds], ["a"], {"a": [1.0]})]).axes
    ticks = [tick for tick in axes.get_xticks() if 0 <= tick <= seconds]
    assert ticks == pytest.approx([i * step for i in range(len(ticks))]) and seconds - ticks[-1] < step
    assert axes.xaxis.get_major_formatter()(ticks[1], 1) == f"{step:g} s"


def test_a_class_keeps_its_color_from_panel_to_panel():
    many = [f"class {i}" for i in range(8)]
    figure = draw_timelines([panel(names=("a", "b")), panel(names=("c", "b")), panel(names=[*many[:6], "b", "a"])])
    colors = [{label: bars_of(axes, label)[0][2] for label in names_of(axes.get_yticklabels())[1:]} for axes in figure.axes]
    chosen = plots._colors_of([panel(names=("a", "b")), panel(names=("c", "b")), panel(names=[*many[:6], "b", "a"])])
    assert colors[0]["b"] == colors[1]["b"]  # both with probability 0.25
    assert chosen[0]["a"] == chosen[2]["a"] and chosen[0]["b"] == chosen[1]["b"] == chosen[2]["b"]
    assert [len(set(panel_colors.values())) for panel_colors in chosen] == [2, 2, 8]


def test_an_image_of_too_many_videos_is_refused():
    assert draw_timelines([panel()] * 120).dpi < plots.DPI  # less sharp, so that it stays within the limit
    with pytest.raises(UserError, match=r"300 videos make an image of \d+ pixels in height .at most 30000.: draw fewer"):
        draw_timelines([panel()] * 300)


# ---- a stream -------------------------------------------------------------------------------------------------

def test_a_stream_shows_truth_above_answers():
    """Rows of 30 seconds: each gesture in its class's color, green or red below it, and the answers' colors under that."""
    truth = [(4.0, 8.0, "Turn Left"), (28.0, 36.0, "Turn Right")]
    answers = [(0.0, 5.0, "Turn Right"), (5.0, 10.0, "Turn Left"), (10.0, 45.0, None)]
    figure = draw_stream(truth, answers, recognised=[True, False], seconds=45.0, class_names=["Turn Left", "Turn Right"])
    first, second = figure.axes
    left, right, nothing = "#8ecae6", "#1d6fa5", "#eceef1"
    assert bars_of(first, "truth") == [(4, 8, left), (28, 30, right)] and bars_of(second, "truth") == [(30, 36, right)]
    assert bars_of(first, "recognised") == [(4, 8, "#1a7f37"), (28, 36, "#c62828")]
    assert bars_of(first, "answer") == [(0, 5, right), (5, 10, left), (10, 30, nothing)]
    assert bars_of(second, "answer") == [(30, 45, nothing)]
    assert [axes.get_xlim() for axes in figure.axes] == [(0, 30), (30, 45)]  # the video ends at 45 seconds
    widths = [axes.get_position().width for axes in figure.axes]
    assert widths == pytest.approx([1, 0.5])  # with one scale
    assert [(text.get_text(), text.get_color()) for text in first.texts] == [
        ("Left", "black"), ("Right", "white"), ("Right", "white"), ("Left", "black")]
    legend, = figure.legends
    assert names_of(legend.get_texts()) == ["Turn Left", "Turn Right", "recognised", "not recognised"]


def test_a_name_is_left_out_where_it_does_not_fit():
    spans = [(0.0, 0.3, "Left"), (1.0, 3.0, "Left")]
    axes, = draw_stream(spans, [], recognised=[True, True], seconds=10.0, class_names=["Left"]).axes
    assert [(text.get_text(), text.get_position()[0]) for text in axes.texts] == [("Left", 2.0)]
