"""Captions said in other words: crimson for deep red, enormous for very large, and whole sentences around them.

Bird captions use few words for what is seen. These tables, written for this project, say what other words stand for,
in words that captions do use: the caption with the one and the caption with the other are to have one meaning. Some
words are held out of training: how well they are understood measures what is learned beyond the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np

__all__ = [
    "BASIC_COLOURS",
    "HELD_OUT",
    "MEANINGS",
    "SHADES",
    "SPELLINGS",
    "Paraphraser",
    "basic_colours",
    "before_word",
    "colours_in",
    "colours_named",
    "replaced",
]

BASIC_COLOURS = (
    "red", "orange", "yellow", "green", "blue", "black", "white", "grey", "brown", "pink", "purple",
)  # fmt: skip

# What words mean, in caption words. The last word of a colour's meaning is its basic colour.
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

# Words of the tables above that the colour-word test puts in place of a basic colour, six for each.
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

# How captions spell the basic colours, as words of their own and at the beginning of parts of compounds ("bluish").
SPELLINGS: Mapping[str, str] = {name: name for name in BASIC_COLOURS} | {"gray": "grey", "violet": "purple"}
_STEMS = {name: (name,) for name in BASIC_COLOURS} | {
    "grey": ("grey", "gray"), "purple": ("purpl", "violet", "lavender", "lilac", "mauve"), "blue": ("blu",),
    "white": ("whit",), "orange": ("orang",), "yellow": ("yellow", "golden"),
}  # fmt: skip

# Which words exclude each other: a caption with one in place of another says something else.
_KINDS = (
    BASIC_COLOURS,
    ("small", "large"),
    ("long", "short"),
    ("thin", "thick", "fat"),
    ("bright", "dull"),
    ("spotted", "striped"),
    ("pointed", "curved"),
    ("belly", "head", "feet", "breast"),
)
_KIND = {word: kind for kind in _KINDS for word in kind}

# Kept out of every sentence of training.
HELD_OUT = frozenset(
    (
        "vermilion", "carmine", "garnet", "cranberry", "persimmon", "marigold", "clementine", "saffron",
        "buttery", "dandelion", "verdant", "pistachio", "shamrock", "cerulean", "ultramarine", "lapis",
        "obsidian", "sable", "soot", "alabaster", "chalky", "porcelain", "leaden", "pewter", "granite",
        "sienna", "mocha", "walnut", "cerise", "flamingo", "raspberry", "amethyst", "aubergine", "mulberry",
        "minuscule", "diminutive", "colossal", "gargantuan",
    )
)  # fmt: skip

# What people say around a picture. {} is a thing ("a red bird with white wings") or a whole sentence.
_AROUND_A_THING = (
    "i saw {}", "we saw {}", "look at {}", "there is {}", "there was {}", "here is {}", "a photo of {}",
    "a picture of {}", "a painting of {}", "an image of {}", "please draw {}", "draw me {}", "show me {}",
    "can you paint {}", "i would like {}", "i want to see {}", "imagine {}", "my grandmother loves {}",
    "yesterday we spotted {}", "once upon a time there lived {}", "my neighbour keeps {}", "she found {}",
    "he noticed {}", "the children drew {}", "it looks like {}", "think of {}", "what about {}", "maybe {}",
    "close-up of {}", "could this be {}", "they took a photograph of {}", "my favourite is {}",
)  # fmt: skip
_AROUND_A_SENTENCE = (
    "i think {}", "my friend says that {}", "note that {}", "as you can see, {}", "in this picture {}", "look, {}",
    "i remember that {}", "the book says {}", "it seems that {}", "yes, {}", "hello! {}", "well, {}", "you know, {}",
)  # fmt: skip
_AFTER = (
    "in the park", "on a branch", "sitting in a tree", "by the river", "near the lake", "at dawn", "last night",
    "today", "on my way to work", "in the forest", "while i was walking the dog", "behind our house",
    "next to the window", "and it was singing", "and then it flew away",
    "on the roof", "after the rain", "in the snow", "every summer",
    "which made me happy", "please", "if you can", "thank you", "with my camera", "on a sunny day", "at the zoo",
    "looking at me", "on the fence", "in high resolution", "for my sister", "eating seeds", "standing on the grass",
)  # fmt: skip


class Paraphraser:
    """Says captions in other words, and says something else in almost the same ones.

    Args:
        meanings: what words stand for.
        held_out: words never to use.

    >>> Paraphraser({"azure": "bright blue"}).draw("A blue wing.", np.random.default_rng(0))
    ('An azure wing.', 'A bright blue wing.', 'A pink wing.')
    """

    def __init__(self, meanings: Mapping[str, str] = MEANINGS, held_out: Iterable[str] = HELD_OUT) -> None:
        banned = frozenset(held_out)
        self.words: dict[str, list[str]] = {}  # by the word that says it best, and by whole meanings
        for word, meaning in meanings.items():
            if word not in banned:
                for key in {meaning, meaning.split()[-1]}:
                    self.words.setdefault(key, []).append(word)
        self.meanings = meanings
        keys = sorted({*self.words, "gray"}, key=len, reverse=True)
        self._find = re.compile(r"\b(?:" + "|".join(map(re.escape, keys)) + r")\b", re.IGNORECASE)

    def draw(self, caption: str, draws: np.random.Generator) -> tuple[str, str, str | None] | None:
        """The caption with one word replaced: in other words, in words that captions use, and by something else.

        The last is None where nothing is known to exclude the word; all are None where no word can be replaced.
        """
        places = list(self._find.finditer(caption))
        if not places:
            return None
        place = places[draws.integers(len(places))]
        found = place[0].lower().replace("gray", "grey")
        said = self.words[found][draws.integers(len(self.words[found]))]
        meant = self.meanings[said]
        head = meant.split()[-1]
        kind = [other for other in _KIND.get(head, ()) if other != head]
        wrong = replaced(caption, place.span(), kind[draws.integers(len(kind))]) if kind else None
        return replaced(caption, place.span(), said), replaced(caption, place.span(), meant), wrong

    def wrap(self, caption: str, draws: np.random.Generator) -> str:
        """The caption inside something one would say: "i saw a red bird in the park"."""
        text = caption.strip().rstrip(".").strip()
        is_thing = re.match(r"(?i)an? ", text) and not re.search(r"(?i)\b(is|are|has|have)\b", text)
        forms = _AROUND_A_THING if is_thing else _AROUND_A_SENTENCE
        if draws.random() < 0.7:
            text = forms[draws.integers(len(forms))].format(text)
        if draws.random() < 0.6:
            text = f"{text} {_AFTER[draws.integers(len(_AFTER))]}"
        return text


def basic_colours(text: str) -> list[tuple[str, tuple[int, int]]]:
    """The basic colour words of a text with their places; gray is grey.

    >>> basic_colours("A gray bird, red wings")
    [('grey', (2, 6)), ('red', (13, 16))]
    """
    found = re.finditer(r"\b(?:gray|" + "|".join(BASIC_COLOURS) + r")\b", text, re.IGNORECASE)
    return [(match[0].lower().replace("gray", "grey"), match.span()) for match in found]


def replaced(text: str, span: tuple[int, int], words: str) -> str:
    """The text with the words at ``span`` replaced, and an "a" or "an" before them that suits.

    >>> replaced("an orange bird", (3, 9), "red")
    'a red bird'
    """
    return before_word(text[: span[0]], words) + words + text[span[1] :]


def before_word(before: str, word: str) -> str:
    """``before`` with a last "a" or "an" that suits ``word``.

    >>> before_word("this is a ", "orange"), before_word("An ", "red"), before_word("two ", "owls")
    ('this is an ', 'A ', 'two ')
    """
    right = r"\1n\2" if word[:1].lower() in "aeiou" else r"\1\2"
    return re.sub(r"\b([aA])n?(\s+)$", right, before)


@lru_cache(maxsize=65536)
def colours_in(token: str) -> frozenset[str]:
    """Basic colours that a word names: itself, "bluish", "blue-gray".

    >>> sorted(colours_in("yellowish-white")), sorted(colours_in("wing"))
    (['white', 'yellow'], [])
    """
    parts = re.split(r"[-']", token.lower())
    return frozenset(c for c, stems in _STEMS.items() if any(part.startswith(stems) for part in parts))


def colours_named(caption: str) -> list[str]:
    """Basic colours that a caption names, each once, in its order.

    >>> colours_named("a grayish bird with a black and white crown and white wings")
    ['grey', 'black', 'white']
    """
    tokens = re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", caption)
    return list(dict.fromkeys(colour for token in tokens for colour in sorted(colours_in(token))))
