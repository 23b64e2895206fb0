"""Choices and defaults of the optical flow. Apart from its computation, which needs OpenCV: they are flags' too."""

LAYOUTS = ("ucf", "something_v1", "rgb")  # described in `ops.prepare.optical_flow`
METHODS = ("dis", "tvl1")
BOUND = 20.0  # published: displacements of -20 to 20 pixels become 0 to 255
HEIGHT = 256  # pixels: of the frames that the flow is computed on, and so of its images
QUALITY = 95
