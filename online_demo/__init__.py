"""Streaming: a trained model behind a camera, a video file or a folder of frames."""
