"""What the gestures data set is: classes, sizes, lengths. Apart from its making, which needs OpenCV: flags name them too."""

# In the order of their labels. Classes 2k and 2k + 1 are each other's time reversal.
CLASSES: tuple[str, ...] = (
    "Swiping Left", "Swiping Right", "Swiping Up", "Swiping Down", "Zooming In", "Zooming Out",
    "Turning Hand Clockwise", "Turning Hand Counterclockwise")
TWIN: tuple[int, ...] = tuple(label ^ 1 for label in range(len(CLASSES)))
TURNING = 3  # the pair that shows only hands: most other shapes look the same after part of a turn

Size = tuple[int, int]
SIZE: Size = (96, 72)  # width, height in pixels
MIN_FRAMES, MAX_FRAMES = 20, 60
VIDEOS = 1800  # default of all programs, so that the quickstart and `main.py gestures` share a data set
FPS = 12  # Something-Something-V2's rate: clips of 20 to 60 frames last 1.7 to 5 seconds
FORMATS = ("mp4", "webm")
