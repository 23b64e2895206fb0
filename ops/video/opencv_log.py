"""The level of OpenCV's own messages. OpenCV 4 and 5 have the same functions in different places."""
import cv2

SILENT = 0


def set_log_level(level: int) -> int:
    """Set the level, SILENT (0) to 6 (verbose), for this process; the level before."""
    module = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    before: int = module.getLogLevel()
    module.setLogLevel(level)
    return before
