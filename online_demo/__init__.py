"""The camera demo: an online model on a camera, a video file, a directory of frames or a network stream."""
