"""Web page for image generation from captions, photos and seeds; runs entirely on the local machine.

The page loads no fonts, scripts or images from other hosts. Gradio's usage reports are disabled here, as Gradio reads
these variables when it is imported.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"
