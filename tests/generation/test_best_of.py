"""--best-of: the candidate whose image agrees best with its caption, in Python, `generate` and `batch`."""

from pathlib import Path

import pytest
import torch

from stackgan import StackGANPipeline
from stackgan.config import MAX_SEED
from stackgan.generation.batch import batch, image_seed
from stackgan.generation.generate import generate
from stackgan.networks.realism import RealismNetwork
from tests.generation.folders import manifest, pixels
from tests.tiny import CAPTIONS, tiny_pipeline

pytestmark = pytest.mark.usefixtures("one_thread")


def agreement(pipe: StackGANPipeline, caption: str, seed: int) -> float:
    assert pipe.text_encoder is not None
    e = pipe.encode([caption])
    with torch.inference_mode():
        image = pipe.generate(e, [seed], 0.8)[0]
        return float(torch.cosine_similarity(pipe.text_encoder.encode_images(image), e))


def test_the_candidate_with_the_best_agreement_is_chosen() -> None:
    pipe = tiny_pipeline()
    out = pipe(CAPTIONS[:3], seeds=[0, 5, 9], truncation=0.8, best_of=4)
    for caption, seed, chosen in zip(CAPTIONS, (0, 5, 9), out.seeds, strict=False):
        scores = {tried: agreement(pipe, caption, tried) for tried in range(4 * seed, 4 * seed + 4)}
        assert scores[chosen] == pytest.approx(max(scores.values()), abs=1e-5)
    assert out.seeds != [0, 20, 36]  # not the first candidate of all


def realism_network(seed: int = 0) -> RealismNetwork:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return RealismNetwork(width=8).eval().requires_grad_(False)


def test_realism_chooses_too_where_the_checkpoint_can_predict_it(tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    pipe.realism = realism_network()
    pipe.realism.agreement.fill_(0.5)
    pipe.save_pretrained(tmp_path / "with", card="# tiny\n")
    loaded = StackGANPipeline.from_pretrained(tmp_path / "with")
    assert loaded.realism is not None and loaded.realism.identity == pipe.realism.identity
    out = loaded(CAPTIONS[0], seeds=2, truncation=0.8, best_of=8)
    scores = {}
    for tried in range(16, 24):
        with torch.inference_mode():
            image = loaded.generate(loaded.encode(CAPTIONS[:1]), [tried], 0.8, [0])[0]
        scores[tried] = float(loaded.realism(image)) + 0.5 * agreement(loaded, CAPTIONS[0], tried)
    assert scores[out.seeds[0]] == pytest.approx(max(scores.values()), abs=1e-5)


def test_a_batch_is_not_resumed_with_another_network(tmp_path: Path, captions: Path) -> None:
    pipe, name = tiny_pipeline(), tmp_path / "checkpoint"
    for seed, best in ((0, 2), (1, 1)):
        pipe.realism = realism_network(seed)
        pipe.save_pretrained(name, card="# tiny\n")
        out = tmp_path / f"best-of-{best}"
        assert batch(captions, checkpoint=name, out=out, best_of=best) == 0
    with pytest.raises(ValueError, match="holds another batch"):
        batch(captions, checkpoint=name, out=tmp_path / "best-of-2", best_of=2)
    pipe.realism = None
    pipe.save_pretrained(name, card="# tiny\n")
    assert batch(captions, checkpoint=name, out=tmp_path / "best-of-1", best_of=1) == 0  # no choice, the same images


def test_the_chosen_seed_gives_the_same_image_again() -> None:
    pipe = tiny_pipeline()
    best = pipe(CAPTIONS[0], seeds=7, best_of=5)
    assert list(best.images[0].getdata()) == list(pipe(CAPTIONS[0], seeds=best.seeds).images[0].getdata())


def test_a_single_candidate_is_no_selection() -> None:
    pipe = tiny_pipeline()
    assert pipe.best_seeds(pipe.encode(CAPTIONS[:1]), [MAX_SEED], 1) == [MAX_SEED]
    assert pipe(CAPTIONS[0], seeds=[3], best_of=1).seeds == [3]


def test_what_cannot_be_compared_is_refused() -> None:
    pipe = tiny_pipeline()
    with pytest.raises(ValueError, match="best of 0: give 1"):
        pipe(CAPTIONS[0], seeds=1, best_of=0)
    with pytest.raises(ValueError, match="out of range"):
        pipe(CAPTIONS[0], seeds=MAX_SEED, best_of=2)
    with pytest.raises(ValueError, match="trained without text"):
        tiny_pipeline(text=False)(seeds=1, best_of=2)
    e = pipe.encode(CAPTIONS[:1])
    with pytest.raises(ValueError, match="came without one"):
        StackGANPipeline(pipe.model, None)(embeddings=e, seeds=1, best_of=2)


def test_generate_names_files_by_the_chosen_seed(tmp_path: Path, checkpoint: Path) -> None:
    files = generate(CAPTIONS[:2], checkpoint=checkpoint, out=tmp_path / "a", seeds=[0, 1, 2], best_of=3)
    assert len(files) == 6
    chosen = [int(file.stem.rpartition("-")[2]) for file in files]
    assert [seed // 3 for seed in chosen] == [0, 1, 2] * 2
    for row, caption in enumerate(CAPTIONS[:2]):
        own = chosen[3 * row : 3 * row + 3]
        again = generate([caption], checkpoint=checkpoint, out=tmp_path / "b", seeds=own)
        for file, other in zip(files[3 * row : 3 * row + 3], again, strict=True):
            assert abs(pixels(file).astype(int) - pixels(other)).max() <= 1  # another batch, so up to rounding


def test_a_batch_goes_on_with_the_seeds_it_chose(tmp_path: Path, checkpoint: Path, captions: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for out in (whole, cut):
        assert batch(captions, checkpoint=checkpoint, out=out, best_of=3, seed=4, batch_size=4) == 0
    records = manifest(whole)
    assert all(r["seed"] // 3 == image_seed(4, r["caption"], r["copy"]) for r in records)
    for record in records[1::2]:
        (cut / record["file"]).unlink()
    (cut / "manifest.jsonl").unlink()
    assert batch(captions, checkpoint=checkpoint, out=cut, best_of=3, seed=4, batch_size=4) == 0
    assert manifest(cut) == records
    for record in records:
        assert (cut / record["file"]).read_bytes() == (whole / record["file"]).read_bytes()
    with pytest.raises(ValueError, match="holds another batch"):
        batch(captions, checkpoint=checkpoint, out=cut, best_of=2, seed=4, batch_size=4)
