"""The gallery's value has the keys that its template and its script use."""

import re

from stackgan.app import painting
from stackgan.app.gallery import EMPTY, gallery_value
from stackgan.app.image_request import ImageRequest
from stackgan.app.static_files import read_static
from stackgan.pipeline import StackGANPipeline
from tests.tiny import CAPTIONS


def test_template_and_script_use_keys_of_the_value(pipe: StackGANPipeline) -> None:
    value = gallery_value(painting.generate(pipe, ImageRequest(CAPTIONS[0], 1, 0, 1)), "title", "detail")
    code = read_static("gallery.handlebars") + read_static("gallery.js")
    code += read_static("link.js") + read_static("live.js")
    used = set(re.findall(r"\bvalue\.(\w+)", code))
    for names in re.findall(r"\{([\w, ]+)\} = value;", code):
        used |= set(names.split(", "))
    assert used == {*value, *EMPTY}
    card = value["images"][0]
    assert set(re.findall(r"\bimage\.(\w+)", read_static("gallery.js"))) <= set(card)
