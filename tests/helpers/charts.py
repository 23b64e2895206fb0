"""What a chart shows, read from matplotlib's figure instead of from pixels."""
from matplotlib.colors import to_hex
from matplotlib.figure import Figure


def capture_figures(monkeypatch) -> list[Figure]:
    """The figures that are written from now on, in order."""
    figures: list[Figure] = []
    save = Figure.savefig

    def savefig(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)
    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def lines_of(axes) -> dict[str, list[tuple[float, float]]]:
    """The points of each curve, by its label."""
    return {line.get_label(): list(zip(*(values.tolist() for values in line.get_data(orig=False)))) for line in axes.lines}


def bars_of(axes, label) -> list[tuple[float, float, str]]:
    """(start, end, color) of each bar of the row with this label."""
    row = next(row for row in axes.collections if row.get_label() == label)
    extents = [path.get_extents() for path in row.get_paths()]
    return [(extent.x0, extent.x1, to_hex(color)) for extent, color in zip(extents, row.get_facecolors())]


def names_of(ticks) -> list[str]:
    return [text.get_text() for text in ticks]
