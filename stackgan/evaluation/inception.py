"""FID, KID and Inception score with the Inception network and the functions of torch-fidelity.

Only this module imports torch-fidelity (``pip install "stackgan[eval]"``). Its network is TensorFlow's Inception-v3
of 2015, which defines published FIDs; the weights (95 MB) are not part of a package.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import torch

from stackgan.evaluation.features import FeatureNetwork, FeatureSet

__all__ = ["fidelity_figures", "load_inception", "weights_file"]

DIGEST = "6726825d"  # prefix of the weights' sha256, as in their file name
LAYERS = ("2048", "logits_unbiased")  # for FID, KID, precision and recall; for the Inception score
PREPROCESSING = (
    "8-bit images at the model's own size, resized to 299 px by torch-fidelity as TensorFlow 1 did (bilinear, "
    "no antialiasing), (level − 128) / 128"
)


def load_inception(source: str, device: torch.device | str = "cpu") -> FeatureNetwork:
    """torch-fidelity's Inception-v3.

    Args:
        source: ``auto`` for the weights in torch's cache, downloaded if necessary, or the file of the weights.

    Raises:
        ValueError: torch-fidelity is not installed, or the file does not contain these weights.
        FileNotFoundError: the file does not exist, or the download failed; the message says how to get the weights.
    """
    fidelity = _library("feature_extractor_inceptionv3")
    file = weights_file() if source == "auto" else Path(source)
    if not file.is_file():
        if source != "auto":
            raise FileNotFoundError(f"{file}: does not exist; {_how_to_get()}")
        _fetch(fidelity.URL_INCEPTION_V3, file)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if not digest.startswith(DIGEST):
        raise ValueError(
            f"{file}: not the Inception weights of FID (sha256 {digest[:8]}…, expected {DIGEST}…); {_how_to_get()}"
        )
    torch.load(file, map_location="cpu", weights_only=True)  # safety check, as torch-fidelity unpickles without it
    net = fidelity.FeatureExtractorInceptionV3(
        "inception-v3-compat", list(LAYERS), feature_extractor_weights_path=str(file)
    )
    name = "Inception-v3, torch-fidelity"
    identity = f"inception-{digest[:12]}"
    return FeatureNetwork(net, name, identity=identity, preprocessing=PREPROCESSING, inception=True, device=device)


def weights_file() -> Path:
    """File of the downloaded weights in torch's cache."""
    url: str = _library("feature_extractor_inceptionv3").URL_INCEPTION_V3
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def fidelity_figures(generated: FeatureSet, real: FeatureSet) -> dict[str, Any]:
    """FID, KID and Inception score from features, by torch-fidelity's own functions.

    KID: 100 subsets of 1,000 images, or of the size of the smaller set, with their standard deviation. Inception
    score: 10 parts of the shuffled images; omitted for fewer than 10 images.
    """
    fid, kid, isc = _library("metric_fid"), _library("metric_kid"), _library("metric_isc")
    statistics = [fid.fid_features_to_statistics(side.features) for side in (generated, real)]
    size = min(1000, len(generated), len(real))
    kernel = kid.kid_features_to_metric(generated.features, real.features, kid_subset_size=size, verbose=False)
    figures = {
        "FID": fid.fid_statistics_to_metric(*statistics, verbose=False)[fid.KEY_METRIC_FID],
        "KID": {
            "value": kernel[kid.KEY_METRIC_KID_MEAN],
            "spread": kernel[kid.KEY_METRIC_KID_STD],
            "subset_size": size,
        },
    }
    if generated.log_probs is not None and len(generated) >= 10:
        score = isc.isc_features_to_metric(generated.log_probs)
        figures["inception_score"] = {
            "value": score[isc.KEY_METRIC_ISC_MEAN],
            "spread": score[isc.KEY_METRIC_ISC_STD],
        }
    return figures


def _fetch(url: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(file), hash_prefix=DIGEST)
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: the digest differs
        raise FileNotFoundError(f"the Inception weights cannot be downloaded ({error}); {_how_to_get()}") from None


def _how_to_get() -> str:
    url = _library("feature_extractor_inceptionv3").URL_INCEPTION_V3
    return f"download {url} (95 MB) to {weights_file()}, or elsewhere and pass --inception FILE"


def _library(module: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    except ImportError:
        raise ValueError('--inception needs torch-fidelity: pip install "stackgan[eval]"') from None
