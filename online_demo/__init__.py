"""Streaming: a trained model behind a camera, a video file or a directory of frames."""
