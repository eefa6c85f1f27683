"""Synonym lexicon: basic colours, their shades and spellings, sizes, and synonyms of words in bird captions.

Bird captions use few words. These tables, written for this project, define other words by words of captions: crimson
is dark red, enormous is very large. All functions that replace or recognise words of captions use them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

__all__ = [
    "BASIC_COLOURS",
    "EXCLUSIVE",
    "HELD_OUT",
    "MEANINGS",
    "SHADES",
    "SPELLINGS",
    "colours_in",
    "colours_named",
]

BASIC_COLOURS = (
    "red", "orange", "yellow", "green", "blue", "black", "white", "grey", "brown", "pink", "purple",
)  # fmt: skip

# Meanings in words of captions, and their synonyms. The last word of a colour's meaning is its basic colour.
_COLOURS = {
    "red": "ruddy rosy cherry strawberry tomato apple ketchup pomegranate rouge hibiscus lobster "
    "rubicund rhubarb chili ladybug reddened",
    "bright red": "scarlet vermilion vermillion cherry-red fire-red lipstick cinnabar fire-engine-red fiery "
    "lava",
    "dark red": "crimson maroon burgundy ruby garnet wine oxblood claret brick carmine cranberry merlot "
    "blood-red beet sangria currant bordeaux blood-coloured beetroot bloody",
    "orange": "tangerine pumpkin carrot marigold mango clementine citrus persimmon papaya nectarine orangey "
    "yam",
    "light orange": "apricot peach peachy melon cantaloupe salmon coral",
    "dark orange": "rust rusty copper coppery burnt-orange amber ginger paprika terracotta ember",
    "yellow": "canary saffron banana daffodil dandelion cheddar citrine goldenrod maize pineapple mimosa yolk "
    "topaz sulphur sulfur bumblebee jonquil yellowed egg-yolk",
    "bright yellow": "lemon lemony neon-yellow golden gold gilded gilt",
    "light yellow": "buttery butter straw blond blonde flaxen primrose custard vanilla wheat straw-coloured "
    "butterscotch",
    "dark yellow": "mustard ochre honey brass brassy",
    "green": "verdant leafy grassy jade emerald clover shamrock cucumber pea parsley basil kiwi fern ivy "
    "malachite viridian juniper pickle broccoli cabbage lettuce asparagus cactus foliage peridot",
    "bright green": "lime chartreuse neon-green apple-green",
    "light green": "mint minty pistachio celery sage seafoam pear spearmint honeydew",
    "dark green": "olive moss mossy pine spinach avocado bottle-green hunter-green forest-green artichoke "
    "camouflage",
    "blue": "azure cobalt sapphire cerulean lapis cornflower blueberry oceanic sea-blue electric-blue prussian "
    "hyacinth aquatic steel-blue jeans",
    "light blue": "sky-blue aqua cyan periwinkle powder-blue baby-blue icy arctic ice-blue "
    "forget-me-not",
    "greenish blue": "teal turquoise aquamarine",
    "dark blue": "navy indigo ultramarine denim midnight-blue petrol navy-blue nautical",
    "black": "ebony jet jet-black onyx raven coal pitch pitch-black inky ink obsidian sable sooty soot tar "
    "licorice coal-black anthracite-black tarry carbon charred gothic basalt raven-black swarthy "
    "blackened asphalt crow-black",
    "white": "ivory snowy snow-white chalk chalky alabaster porcelain milky pearl pearly frosty lily marble "
    "bleached cream creamy eggshell bone ghostly polar albino coconut pallid hoary wintry blanched "
    "ermine linen parchment whitewashed off-white opal opalescent swan-white",
    "grey": "ashen ash ashy pewter steely smoky smoke granite mousy nickel aluminium aluminum zinc cinder "
    "grizzled flint steely-grey",
    "light grey": "silver silvery platinum chrome dove-grey",
    "dark grey": "charcoal slate leaden gunmetal graphite anthracite storm-grey",
    "brown": "chestnut walnut hazel nutty cinnamon sienna bronze leather muddy wooden peanut acorn almond "
    "hickory oak oaken teak maple pecan peat clay dirt-brown brunette tobacco rosewood cedar hazelnut "
    "bison sorrel toasted potato driftwood umber-brown",
    "light brown": "tan beige khaki fawn buff caramel sandy tawny toffee biscuit camel latte taupe ecru oatmeal "
    "mushroom cappuccino praline wheaten",
    "dark brown": "chocolate coffee mahogany espresso mocha umber cocoa sepia russet auburn earthy fudge "
    "molasses brownie mink",
    "pink": "flamingo rose blush bubblegum carnation watermelon ham salmon-pink peony candyfloss shrimp prawn "
    "sakura rosebud fleshy flesh-coloured geranium rose-pink taffy",
    "bright pink": "magenta fuchsia cerise raspberry hot-pink",
    "purple": "violet amethyst grape plum lavender-purple iris orchid boysenberry fig crocus thistle heliotrope "
    "byzantine ube prune purplish-violet",
    "light purple": "lavender lilac mauve wisteria heather",
    "dark purple": "aubergine eggplant mulberry blackberry",
}  # fmt: skip
_SIZES = {
    "very small": "tiny teeny minuscule miniscule wee diminutive microscopic itty-bitty pint-sized minimal "
    "dwarf pygmy teensy",
    "small": "little petite miniature mini dainty pocket-sized undersized puny compact delicate modest",
    "large": "big sizable sizeable hefty bulky substantial oversized burly",
    "very large": "enormous huge giant gigantic massive immense colossal mammoth vast jumbo mighty towering "
    "tremendous monstrous whopping humongous gargantuan",
}  # fmt: skip
_OTHERS = {
    "bright": "vivid vibrant brilliant luminous dazzling glowing radiant intense saturated neon electric",
    "dull": "drab faded muted washed-out dim",
    "dark": "deep dusky shadowy murky gloomy",
    "light": "pale pastel faint",
    "colorful": "multicolored multicoloured rainbow kaleidoscopic psychedelic colourful",
    "shiny": "glossy glistening gleaming lustrous polished shimmering iridescent metallic",
    "long": "lengthy elongated extended",
    "short": "stubby stumpy",
    "thin": "slender slim skinny lean narrow spindly",
    "thick": "stout chunky sturdy",
    "fat": "plump chubby rotund tubby portly obese pudgy stocky",
    "round": "rounded circular spherical globular",
    "spotted": "speckled dotted flecked freckled dappled spotty polka-dotted",
    "striped": "streaked banded stripy lined",
    "fluffy": "fuzzy downy feathery furry woolly",
    "pointed": "pointy sharp tapered spiky needle-like",
    "curved": "bent hooked crooked arched curvy",
    "belly": "tummy stomach abdomen underside underbelly paunch",
    "beak": "bill nib snout",
    "head": "noggin skull",
    "feet": "claws talons toes paws",
    "breast": "chest bosom",
    "feathers": "plumage plumes feathering",
    "bird": "birdie creature fowl animal critter avian songbird beast",
    "beautiful": "lovely pretty gorgeous stunning handsome adorable cute charming",
}  # fmt: skip
MEANINGS: Mapping[str, str] = {
    word: meaning
    for table in (_COLOURS, _SIZES, _OTHERS)
    for meaning, words in table.items()
    for word in words.split()
}

# Words of the tables above that replace basic colours in the colour-word test, six for each.
_SHADE_WORDS = (
    "crimson scarlet ruby vermilion carmine garnet tangerine apricot amber pumpkin carrot marigold golden lemon "
    "mustard saffron buttery lemony emerald jade olive verdant shamrock malachite azure cobalt sapphire cerulean "
    "ultramarine navy lilac mauve plum amethyst aubergine mulberry rose fuchsia magenta carnation peony bubblegum "
    "chestnut chocolate mahogany umber walnut hazel ebony onyx obsidian inky sable coal ivory pearl snowy alabaster "
    "chalk pearly charcoal slate pewter ashen leaden silver"
)
SHADES: Mapping[str, tuple[str, ...]] = {
    colour: tuple(word for word in _SHADE_WORDS.split() if MEANINGS[word].split()[-1] == colour)
    for colour in BASIC_COLOURS
}

# Spellings of the basic colours: as separate words, and as prefixes of parts of compounds ("bluish").
SPELLINGS: Mapping[str, str] = {name: name for name in BASIC_COLOURS} | {"gray": "grey", "violet": "purple"}
_STEMS = {name: (name,) for name in BASIC_COLOURS} | {
    "grey": ("grey", "gray"), "purple": ("purpl", "violet", "lavender", "lilac", "mauve"), "blue": ("blu",),
    "white": ("whit",), "orange": ("orang",), "yellow": ("yellow", "golden"),
}  # fmt: skip

# Mutually exclusive words: replacing one by another changes the meaning of a caption.
EXCLUSIVE = (
    BASIC_COLOURS,
    ("small", "large"),
    ("long", "short"),
    ("thin", "thick", "fat"),
    ("bright", "dull"),
    ("spotted", "striped"),
    ("pointed", "curved"),
    ("belly", "head", "feet", "breast"),
)
# Synonyms that are not used in training, to measure generalisation beyond the table.
HELD_OUT = frozenset(
    (
        "vermilion", "carmine", "garnet", "cranberry", "persimmon", "marigold", "clementine", "saffron",
        "buttery", "dandelion", "verdant", "pistachio", "shamrock", "cerulean", "ultramarine", "lapis",
        "obsidian", "sable", "soot", "alabaster", "chalky", "porcelain", "leaden", "pewter", "granite",
        "sienna", "mocha", "walnut", "cerise", "flamingo", "raspberry", "amethyst", "aubergine", "mulberry",
        "minuscule", "diminutive", "colossal", "gargantuan",
    )
)  # fmt: skip


@lru_cache(maxsize=65536)
def colours_in(token: str) -> frozenset[str]:
    """Basic colours in a word: "blue", "bluish", "blue-gray".

    >>> sorted(colours_in("yellowish-white")), sorted(colours_in("wing"))
    (['white', 'yellow'], [])
    """
    parts = re.split(r"[-']", token.lower())
    return frozenset(c for c, stems in _STEMS.items() if any(part.startswith(stems) for part in parts))


def colours_named(caption: str) -> list[str]:
    """Basic colours in a caption, each once, in order of appearance.

    >>> colours_named("a grayish bird with a black and white crown and white wings")
    ['grey', 'black', 'white']
    """
    tokens = re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", caption)
    return list(dict.fromkeys(colour for token in tokens for colour in sorted(colours_in(token))))
