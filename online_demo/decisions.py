"""How the demo prints decisions: JSON lines for programs, or one line per change for people."""
import json
from typing import NamedTuple, Optional, Sequence

from ops.streaming.stream import Decision


class DecisionReport(NamedTuple):
    """A decision as it is printed.

    time: seconds of the source. prediction: class name, None if its probability is below the threshold. latency: seconds
    from the frame's arrival to the decision. top: the best classes and their probabilities, best first.
    """
    time: float
    prediction: Optional[str]
    probability: float
    latency: float
    top: list[tuple[str, float]]


def make_report(decision: Decision, names: Sequence[str], *, time: float, latency: float, threshold: float,
                topk: int) -> DecisionReport:
    """names: of the classes. threshold: see `DecisionReport.prediction`. topk: classes in `top`."""
    best = decision.probabilities.topk(min(topk, len(names)))
    top = [(names[label], probability) for probability, label in zip(best.values.tolist(), best.indices.tolist())]
    prediction = names[decision.index] if decision.probability >= threshold else None
    return DecisionReport(time, prediction, decision.probability, latency, top)


class JsonLines:
    """Prints every decision as a line of JSON."""

    def __call__(self, report: DecisionReport) -> None:
        print(json.dumps({"time": round(report.time, 4), "class": report.prediction,
                          "probability": round(report.probability, 5), "latency": round(report.latency, 5),
                          "top": [[name, round(probability, 5)] for name, probability in report.top]}), flush=True)


class ChangeLines:
    """Prints a line whenever the prediction changes."""

    def __init__(self) -> None:
        self._last: Optional[str] = None

    def __call__(self, report: DecisionReport) -> None:
        if report.prediction != self._last:
            print(f"{report.time:8.2f} s  {report.prediction or 'no answer'}  {100 * report.probability:.0f}%", flush=True)
        self._last = report.prediction


class NoLines:
    """Prints nothing, because the window shows every decision."""

    def __call__(self, report: DecisionReport) -> None:
        pass
