"""Images from captions by the ONNX files beside this one: onnxruntime, tokenizers, NumPy and Pillow, without torch.

python example.py "a small red bird with black wings" --seed 0 --out bird.png
"""

import argparse
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image
from tokenizers import Tokenizer

FOLDER = Path(__file__).resolve().parent


def noise(seed: int, count: int) -> np.ndarray:
    """``torch.randn(count)`` of a generator with this seed, count >= 16: Mersenne Twister, Box-Muller by blocks."""
    twister = np.random.RandomState(seed % 2**32)

    def uniform(n: int) -> np.ndarray:
        return (twister.randint(0, 2**32, n, np.uint32) & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)

    def normal(u: np.ndarray) -> np.ndarray:
        u, angle = u.reshape(-1, 2, 8)[:, 0], u.reshape(-1, 2, 8)[:, 1] * np.float32(2 * np.pi)
        radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - u))
        return np.stack((radius * np.cos(angle), radius * np.sin(angle)), 1).ravel()

    out = uniform(count)
    out[: count // 16 * 16] = normal(out[: count // 16 * 16])
    if count % 16:
        out[-16:] = normal(uniform(16))
    return out


def paint(caption: str, seed: int, truncation: float | None = None) -> Image.Image:
    """The image of a caption and a seed, as ``stackgan generate`` paints it."""
    latent, generator = (InferenceSession(str(FOLDER / f"{name}.onnx")) for name in ("latent", "generator"))
    facts = latent.get_modelmeta().custom_metadata_map
    z, c = np.split(noise(seed, int(facts["z"]) + int(facts["c"]))[None], [int(facts["z"])], axis=1)
    scale = float(facts["truncation"]) if truncation is None else truncation
    inputs = {"noise_z": z, "noise_c": c, "truncation": np.array(scale, np.float32)}
    if (FOLDER / "text.onnx").is_file():
        tokens = Tokenizer.from_file(str(FOLDER / "tokenizer.json")).encode(caption)
        ids_and_mask = {"ids": np.array([tokens.ids]), "mask": np.array([tokens.attention_mask])}
        (inputs["embedding"],) = InferenceSession(str(FOLDER / "text.onnx")).run(None, ids_and_mask)
    elif facts["embedding"] != "0":
        inputs["embedding"] = np.load(caption).reshape(1, -1).astype(np.float32)  # a .npy file: no text encoder
    latents = latent.run(None, {entry.name: inputs[entry.name] for entry in latent.get_inputs()})
    names = [entry.name for entry in generator.get_inputs()]
    image = generator.run(None, dict(zip(names, latents, strict=True)))[-1][0]
    return Image.fromarray(np.clip(np.round((image + 1) / 2 * 255), 0, 255).astype(np.uint8).transpose(1, 2, 0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("caption", help="a caption; a .npy file with an embedding if there is no text encoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--truncation", type=float, help="noise scale (default: the checkpoint's)")
    parser.add_argument("--out", default="image.png")
    options = parser.parse_args()
    paint(options.caption, options.seed, options.truncation).save(options.out)
