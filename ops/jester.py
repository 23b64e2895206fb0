"""Jester's 27 classes in the published order, and what the published demo does with them."""


CLASSES = (
    "Doing other things", "Drumming Fingers", "No gesture", "Pulling Hand In", "Pulling Two Fingers In",
    "Pushing Hand Away", "Pushing Two Fingers Away", "Rolling Hand Backward", "Rolling Hand Forward", "Shaking Hand",
    "Sliding Two Fingers Down", "Sliding Two Fingers Left", "Sliding Two Fingers Right", "Sliding Two Fingers Up",
    "Stop Sign", "Swiping Down", "Swiping Left", "Swiping Right", "Swiping Up", "Thumb Down", "Thumb Up",
    "Turning Hand Clockwise", "Turning Hand Counterclockwise", "Zooming In With Full Hand",
    "Zooming In With Two Fingers", "Zooming Out With Full Hand", "Zooming Out With Two Fingers",
)

# published behaviour: the demo never answers these; it keeps its last answer instead.
REFUSED = frozenset({3, 7, 8, 21, 22})
# published behaviour: "Doing other things" is shown as "No gesture", so that doing nothing has one name.
READ_AS = {0: 2}
START = 2  # "No gesture", before the first frame
