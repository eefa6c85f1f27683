"""Text agreement: does a picture find its own caption among others, as real photos of those captions do?

R-precision (AttnGAN, arXiv:1711.10485, section 4): a picture's caption against 99 of other pictures by cosine of a
judge's vectors; the share of pictures whose own is closest. A random judge, or a generator that ignores its captions,
gives one in a hundred. Distractors come from the whole split, or, harder, from pictures of the same species alone.

Judges, each of which is asked about the photos too:

- ``own``: the checkpoint's own compact encoder with the image half that it was trained with. A generator that was
  trained on these embeddings may agree with it by habit;
- ``independent``: a compact encoder of another seed that no generator saw, trained once on the train split and kept
  in the prepared folder as ``judge/``;
- ``clip``: any CLIP in transformers' format, with its CLIPScore (arXiv:2104.08718) beside it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from stackgan.config import CompactConfig
from stackgan.data.prepared import PreparedFolder, PreparedSplit
from stackgan.images.crops import crop_size
from stackgan.images.pixels import centre_crops, to_pil
from stackgan.io.files import atomic_folder
from stackgan.pipeline import StackGANPipeline
from stackgan.text.base import TextEncoder
from stackgan.text.compact import CompactEncoder
from stackgan.text.contrastive import train_compact_encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "JUDGE",
    "ClipJudge",
    "CompactJudge",
    "Judge",
    "choose_judges",
    "distractors",
    "load_or_train_judge",
    "r_precision",
    "text_agreement_figures",
]

DISTRACTORS = 99
BATCH = 50  # photos looked at together
# On 5,600 photos of CUB, a tenth of them held out: of held-out photos 13 % find their caption among 100 (1 % is
# chance), 4 % among those of their species (2 %). Of training photos 20 %: more steps would gain a little.
JUDGE = CompactConfig(teacher="")
JUDGE_SEED = 1051  # training runs use small seeds: the judge shares no initialisation with an encoder of theirs
VERSION = 1  # of the judge's training: a cached one of another version is trained again
CLIP_WEIGHT = 2.5  # of CLIPScore, arXiv:2104.08718, section 3


class Judge(Protocol):
    """Captions and pictures to vectors of one space, compared by cosine."""

    def captions(self, texts: Sequence[str]) -> Tensor:
        """(N, T) on the CPU."""

    def pictures(self, images: Tensor) -> Tensor:
        """(N, T) on the CPU, of pictures (N, 3, s, s) in [−1, 1]."""


class CompactJudge:
    """A compact caption encoder and its image half.

    Raises:
        FileNotFoundError: its folder holds no image half.
    """

    def __init__(self, encoder: CompactEncoder) -> None:
        self.encoder = encoder
        self.half = encoder.image_tower

    def captions(self, texts: Sequence[str]) -> Tensor:
        return self.encoder.encode(texts).float().cpu()

    @torch.no_grad()
    def pictures(self, images: Tensor) -> Tensor:
        return self.encoder.encode_images(images.to(self.encoder.device)).float().cpu()


class ClipJudge:
    """A CLIP (arXiv:2103.00020) with its tokenizer and image processor.

    Args:
        name: a folder that ``CLIPModel.save_pretrained`` and its processor wrote, or a hub name such as
            ``openai/clip-vit-base-patch32``. Weights are read from safetensors only.

    Raises:
        FileNotFoundError: no such folder or model. ValueError: a folder that holds no whole CLIP.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        import transformers

        path = Path(name).expanduser()
        if not path.is_dir() and (path.is_absolute() or name.startswith(".") or name.count("/") != 1):
            raise FileNotFoundError(f"--clip {name}: no such folder; give a CLIP's folder or a hub name, owner/model")
        where = str(path) if path.is_dir() else name
        if path.is_dir() and not (path / "config.json").is_file():
            raise FileNotFoundError(f"{path / 'config.json'}: missing; --clip takes a folder of a CLIP")
        try:
            loader: Any = transformers.CLIPModel
            model, info = loader.from_pretrained(
                where, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(where)
            self.processor = transformers.CLIPImageProcessor.from_pretrained(where)
        except Exception as error:  # broken files and missing networks surface as many kinds
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            if path.is_dir():
                raise ValueError(f"{path}: cannot be read as a CLIP: {reason}") from None
            raise FileNotFoundError(
                f"--clip {name}: no such folder here, and it could not be fetched ({reason}); "
                f"give a local folder, or fetch it once where there is a network: hf download {name}"
            ) from None
        missing = sorted(info["missing_keys"])
        if missing:
            raise ValueError(f"{where}: {len(missing)} weights of a CLIP are missing, first {missing[0]!r}")
        self.model = model.eval().requires_grad_(False).to(device)
        self.max_tokens = int(model.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def captions(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        ids, mask = (tokens[key].to(self.model.device) for key in ("input_ids", "attention_mask"))
        return _pooled(self.model.get_text_features(input_ids=ids, attention_mask=mask))

    @torch.no_grad()
    def pictures(self, images: Tensor) -> Tensor:
        pixels = self.processor(images=to_pil(images), return_tensors="pt")["pixel_values"]
        return _pooled(self.model.get_image_features(pixel_values=pixels.to(self.model.device)))


def _pooled(features: Any) -> Tensor:
    """transformers 4 gives the projected vectors themselves, 5 an output that holds them."""
    return (features if isinstance(features, Tensor) else features.pooler_output).float().cpu()


def choose_judges(
    pipe: StackGANPipeline, prepared: PreparedFolder, *, judge: Path | None = None, clip: str | None = None
) -> dict[str, Judge]:
    """The judges there are, by name: ``own`` where the checkpoint's encoder has an image half, ``independent``
    (see :func:`load_or_train_judge`), ``clip`` where one is given."""
    found: dict[str, Judge] = {}
    own = _own(pipe.text_encoder)
    if own is not None:
        found["own"] = own
    found["independent"] = CompactJudge(load_or_train_judge(prepared, judge, device=pipe.device))
    if clip is not None:
        found["clip"] = ClipJudge(clip, pipe.device)
    return found


def _own(encoder: TextEncoder | None) -> CompactJudge | None:
    if not isinstance(encoder, CompactEncoder):
        return None
    try:
        return CompactJudge(encoder)
    except FileNotFoundError:
        return None


def load_or_train_judge(
    prepared: PreparedFolder,
    folder: Path | None = None,
    *,
    settings: CompactConfig = JUDGE,
    device: torch.device | str = "cpu",
) -> CompactEncoder:
    """The independent judge: of ``folder``, or the prepared folder's own, trained and kept there if need be.

    Raises:
        FileNotFoundError: ``folder`` holds no compact encoder with an image half.
        ValueError: there is nothing to train a judge on: no split "train".
    """
    if folder is not None:
        encoder = CompactEncoder.load(folder)
        return _with_image_half(encoder).to(device)
    cache = prepared.path / "judge"
    facts = {"version": VERSION, "seed": JUDGE_SEED, "data": prepared.identity, "settings": asdict(settings)}
    if _facts(cache) == json.loads(json.dumps(facts)):
        return _with_image_half(CompactEncoder.load(cache)).to(device)
    if "train" not in prepared.splits:
        raise ValueError(f"{prepared.path}: has no split 'train' to train a judge on: give one with --judge")
    train = prepared.splits["train"]
    encoder = train_compact_encoder(train, settings, seed=JUDGE_SEED, progress=True, device=device)
    try:
        _keep(encoder, cache, facts)
    except OSError as error:  # a prepared folder somebody else owns is no reason not to measure
        warnings.warn(f"{cache}: cannot keep the judge there ({error}); trained anew next time", stacklevel=2)
    return encoder.to(device)


def _with_image_half(encoder: CompactEncoder) -> CompactEncoder:
    _ = encoder.image_tower  # read now, so that what is missing is said before anything is painted
    return encoder


def _facts(cache: Path) -> Any:
    try:
        return json.loads((cache / "judge.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _keep(encoder: CompactEncoder, cache: Path, facts: Mapping[str, Any]) -> None:
    """Write the whole folder beside ``cache`` and give it its name at the end."""
    with atomic_folder(cache) as partial:
        encoder.save(partial)
        (partial / "judge.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


# -------------------------------------------------------------------------------------------------- measure


def r_precision(
    pictures: Tensor, captions: Tensor, distractors: NDArray[np.int64], own: NDArray[np.int64] | None = None
) -> float:
    """Share (0–1) of pictures that are closer, by cosine, to their own caption than to every distractor.

    Where t distractors are exactly as close, a picture counts 1 / (t + 1): half for one tie, and one in a hundred for
    a judge that gives every caption the same vector. Pictures without distractors are left out.

    Args:
        pictures: (N, T).
        captions: (M, T).
        distractors: (N, K) rows of ``captions``, filled up with −1 where there are fewer.
        own: (N,) rows of ``captions``; without it picture i's is row i.

    Raises:
        ValueError: shapes that do not belong together, or no picture with a distractor.

    >>> r_precision(torch.eye(3), torch.eye(3), np.array([[1, 2], [0, 2], [0, 1]]))
    1.0
    """
    own = np.arange(len(pictures)) if own is None else own
    if pictures.ndim != 2 or captions.ndim != 2 or pictures.shape[1] != captions.shape[1]:
        raise ValueError(
            f"pictures {tuple(pictures.shape)}, captions {tuple(captions.shape)}: give (N, T) and (M, T)"
        )
    if distractors.ndim != 2 or len(distractors) != len(pictures) or len(own) != len(pictures):
        raise ValueError(
            f"{len(pictures)} pictures, {len(own)} own captions, distractors {distractors.shape}: give N each"
        )
    known = torch.from_numpy(distractors >= 0)
    kept = known.any(1)
    if not kept.any():
        raise ValueError("no picture has a distractor: R-precision needs captions of other pictures")
    p, c = (F.normalize(vectors.double(), dim=1) for vectors in (pictures, captions))
    scores = torch.cat(
        [
            torch.einsum("nt,nkt->nk", p[rows], c[np.column_stack((own[rows], distractors[rows].clip(0)))])
            for rows in np.array_split(np.arange(len(p)), max(1, len(p) // 256))
        ]
    )
    right, others = scores[:, :1], scores[:, 1:]
    # Equal vectors may differ in the last bit by the order of additions.
    tied = ((others - right).abs() <= 1e-12) & known
    beaten = ((others > right) & known & ~tied).any(1)
    points = (~beaten).double() / (tied.sum(1) + 1)
    return float(points[kept].mean())


def distractors(
    split: PreparedSplit, rows: NDArray[np.int64], *, same_species: bool, seed: int, count: int = DISTRACTORS
) -> NDArray[np.int64]:
    """For each of the split's captions ``rows`` (N,), ``count`` captions of other pictures: (N, count) rows.

    Captions that say the same as the picture's own are left out. Filled up with −1 where there are fewer.

    Args:
        same_species: only of pictures of the same species.
    """
    draws = np.random.default_rng((seed, 0xA6, same_species))
    photo = np.repeat(np.arange(len(split)), np.diff(split.offsets))  # (captions,)
    species = split.species_numbers()[photo]
    plain = [" ".join(caption.lower().split()).rstrip(" .") for caption in split.captions]
    number = {text: i for i, text in enumerate(dict.fromkeys(plain))}
    text = np.array([number[caption] for caption in plain])
    found = np.full((len(rows), count), -1, np.int64)
    for i, row in enumerate(rows):
        allowed = (photo != photo[row]) & (text != text[row])
        if same_species:
            allowed &= species == species[row]
        candidates = np.flatnonzero(allowed)
        chosen = draws.choice(candidates, min(count, len(candidates)), replace=False)
        found[i, : len(chosen)] = chosen
    return found


def text_agreement_figures(
    split: PreparedSplit,
    rows: NDArray[np.int64] | Sequence[int],
    pictures: Iterable[Tensor],
    judges: Mapping[str, Judge],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """How well painted pictures agree with their captions, and the real photos of those captions beside them.

    Pictures pass through once; only their vectors are kept.

    Args:
        rows: (N,) the caption of each picture, a row of ``split.captions``.
        pictures: chunks (n, 3, s, s) in [−1, 1], N pictures together, in the order of ``rows``.
        judges: see :func:`choose_judges`.

    Returns: ``pictures``; ``distractors``: by kind (``random``, ``same_species``) how many a picture on average and
        the ``chance`` of a random judge; and for each judge by kind ``painted`` with its standard ``error``,
        ``photos`` (shares) and ``ratio``. For ``clip`` also ``clip_score``, 100 · max(cos, 0), and ``clip_s``,
        2.5 · max(cos, 0), both means.
        Kinds without distractors (no species known) are left out.

    Raises:
        ValueError: no pictures, or more or fewer than rows; no other picture in the split.
    """
    own = np.asarray(rows, np.int64)
    if not len(own):
        raise ValueError("text agreement needs one caption with its picture, or more")
    kinds = {}
    for name, same in (("random", False), ("same_species", True)):
        chosen = distractors(split, own, same_species=same, seed=seed)
        if (chosen >= 0).any():
            kinds[name] = chosen
    if not kinds:
        raise ValueError(f"{split.path}: no other picture's captions to tell the pictures' own from")
    painted = _vectors(judges, pictures)
    count = len(next(iter(painted.values()))) if painted else 0
    if judges and count != len(own):
        raise ValueError(f"{count} pictures and {len(own)} captions: give one picture a caption, in the same order")
    photo = np.searchsorted(split.offsets, own, side="right") - 1
    seen, place = np.unique(photo, return_inverse=True)
    photos = {name: vectors[place] for name, vectors in _vectors(judges, _photos(split, seen)).items()}

    used = np.unique(np.concatenate([own, *(chosen[chosen >= 0] for chosen in kinds.values())]))
    index = np.full(len(split.captions), -1)
    index[used] = np.arange(len(used))
    texts = [split.captions[row] for row in used]
    result: dict[str, Any] = {"pictures": len(own), "distractors": {}}
    for kind, chosen in kinds.items():
        counts = (chosen >= 0).sum(1)
        mean, chance = float(counts.mean()), float((1 / (counts[counts > 0] + 1)).mean())
        result["distractors"][kind] = {"mean": mean, "chance": chance}
    for name, judge in judges.items():
        vectors = _captions(judge, name, texts)
        result[name] = {}
        for kind, chosen in kinds.items():
            local = np.where(chosen >= 0, index[chosen], -1)
            shares = [r_precision(x[name], vectors, local, index[own]) for x in (painted, photos)]
            counted = int((chosen >= 0).any(1).sum())
            result[name][kind] = _beside(*shares) | {"error": (shares[0] * (1 - shares[0]) / counted) ** 0.5}
        if isinstance(judge, ClipJudge):
            match = vectors[index[own]]
            means = [float(F.cosine_similarity(x[name], match).clamp_min(0).mean()) for x in (painted, photos)]
            result[name]["clip_score"] = _beside(*(100 * mean for mean in means))
            result[name]["clip_s"] = _beside(*(CLIP_WEIGHT * mean for mean in means))
    return result


def _beside(painted: float, photos: float) -> dict[str, float | None]:
    return {"painted": painted, "photos": photos, "ratio": painted / photos if photos else None}


def _vectors(judges: Mapping[str, Judge], chunks: Iterable[Tensor]) -> dict[str, Tensor]:
    """Each judge's vectors of all pictures, (N, T)."""
    found: dict[str, list[Tensor]] = {name: [] for name in judges}
    for chunk in chunks:
        for name, judge in judges.items():
            found[name].append(judge.pictures(chunk.float()))
    if not any(found.values()):
        return {}
    return {name: torch.cat(vectors) for name, vectors in found.items()}


def _photos(split: PreparedSplit, rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """The middles of photos, as in training, some at a time."""
    side = crop_size(split.images.shape[1])
    for start in range(0, len(rows), BATCH):
        yield centre_crops(split.images[rows[start : start + BATCH]], side)


def _captions(judge: Judge, name: str, texts: Sequence[str]) -> Tensor:
    distinct = sorted(dict.fromkeys(texts), key=len)  # alike in length, little padding
    row_of = {text: row for row, text in enumerate(distinct)}
    chunks = [distinct[start : start + 64] for start in range(0, len(distinct), 64)]
    bar = tqdm(chunks, desc=f"captions ({name})", unit="batch", leave=False)
    return torch.cat([judge.captions(chunk) for chunk in bar])[[row_of[text] for text in texts]]
