"""The web page: captions, photos and seeds in, images out; everything stays on this machine.

The page loads no font, script or image from other hosts, and Gradio's usage reports are switched off here, before any
module of this package imports Gradio, which reads these variables when it is imported.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"
