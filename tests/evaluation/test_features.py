"""Feature networks: identities, outputs, and the built-in pyramid."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stackgan.data.prepared import PreparedFolder
from stackgan.evaluation.features import FeatureNetwork, Pyramid, load_features, pyramid_features
from stackgan.evaluation.image_sets import (
    Photos,
)
from stackgan.evaluation.metrics import kernel_distance
from tests.tiny import save_tiny_features


def test_feature_networks_are_known_by_code_and_weights(network: Path, tmp_path: Path) -> None:
    first = load_features(network, trust_remote_code=True)
    other = save_tiny_features(tmp_path)
    assert load_features(other, trust_remote_code=True).identity == first.identity and first.name == "tiny"
    (other / "tiny.safetensors").write_bytes(b"other")
    assert load_features(other, trust_remote_code=True).identity != first.identity
    (other / "more.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds 2 \.safetensors"):
        load_features(other, trust_remote_code=True)


def test_a_folders_code_is_executed_only_if_it_is_trusted(tmp_path: Path) -> None:
    folder, mark = save_tiny_features(tmp_path), tmp_path / "executed"
    code = folder / "feature_net.py"
    code.write_text(f"{code.read_text()}\nopen({str(mark)!r}, 'w').close()\n")
    with pytest.raises(ValueError, match=r"feature_net\.py: is Python code .* give --trust-remote-code"):
        load_features(folder)
    assert not mark.exists()
    load_features(folder, trust_remote_code=True)
    assert mark.exists()


def test_a_classifier_of_torchvision_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("torchvision.models")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match="'squeezenet9' is unknown"):
        load_features("squeezenet9")
    torch.manual_seed(0)
    network = models.get_model("mobilenet_v2", weights=None).eval()
    file = tmp_path / "checkpoints" / Path(models.get_model_weights("mobilenet_v2").DEFAULT.url).name
    file.parent.mkdir()
    torch.save(network.state_dict(), file)
    found = load_features("mobilenet_v2")
    levels = torch.randint(0, 256, (2, 3, 224, 224), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        normalised = (levels / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        wanted = network.features(normalised).mean((2, 3))
    torch.testing.assert_close(found.extract(levels).features, wanted, atol=1e-4, rtol=1e-4)
    assert found.identity.startswith("mobilenet_v2-") and found.extract(levels[..., ::4, ::4]).features.shape == (
        2,
        1280,
    )
    with torch.no_grad():
        next(network.parameters()).add_(1)
    torch.save(network.state_dict(), file)
    assert load_features("mobilenet_v2").identity != found.identity


def test_a_timm_model_of_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    from huggingface_hub import constants

    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False).eval()
    repository = tmp_path / "models--somebody--tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    timm.models.save_for_hf(network, snapshot, safe_serialization=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = load_features("somebody/tiny")
    side = network.pretrained_cfg["input_size"][-1]
    levels = torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        wanted = network.forward_head(network.forward_features((levels / 255 - mean) / std), pre_logits=True)
    torch.testing.assert_close(found.extract(levels).features, wanted, atol=1e-4, rtol=1e-4)
    assert found.name == "tiny" and found.identity.startswith("tiny-")
    with pytest.raises(ValueError, match="'somebody/other' is neither a folder nor a timm model"):
        load_features("somebody/other")


def test_probabilities_and_logits_become_log_probabilities() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0]])
    as_probabilities = FeatureNetwork(
        lambda x: (x.flatten(1), logits.softmax(1)), "a", identity="a", preprocessing=""
    )
    as_logits = FeatureNetwork(lambda x: (x.flatten(1), logits), "b", identity="b", preprocessing="", inception=True)
    levels = torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    pair = [network.extract(levels).log_probs for network in (as_probabilities, as_logits)]
    assert pair[0] is not None and pair[1] is not None
    assert torch.allclose(pair[0], logits.log_softmax(1), atol=1e-5) and torch.allclose(pair[0], pair[1], atol=1e-5)


def test_pyramid_sees_colours_blur_and_nothing_of_mirrored_detail() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (2, 3, 64, 64), generator=generator).to(torch.uint8)
    net = Pyramid()
    grey = net(torch.full((1, 3, 64, 64), 127.5).to(torch.uint8))
    assert grey.shape == (1, 336) and grey.abs().max() < 0.01
    sharp = net(noise)
    blurred = net(torch.nn.functional.avg_pool2d(noise.float(), 2).repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.allclose(sharp[:, :192], blurred[:, :192], atol=0.02)  # the same at 8 × 8
    assert (blurred[:, 192:240] < 0.6 * sharp[:, 192:240]).all()  # much less of the finest band
    red = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    red[:, 0] = 255
    assert net(red)[0, :64].min() > 0.99 and net(red)[0, 64:192].max() < -0.99
    assert pyramid_features().extract(torch.zeros(3, 3, 128, 128, dtype=torch.uint8)).features.shape == (3, 336)


def test_pyramid_distance_decreases_with_quality(many_birds: PreparedFolder) -> None:
    """Real birds, blurred birds, copies of one bird, noise: increasing distances."""

    network = pyramid_features()
    reference = Photos(many_birds.splits["test"], 64).features(network).features
    real = torch.from_numpy(Photos(many_birds.splits["train"], 64).rows(range(120))).permute(0, 3, 1, 2)
    blurred = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(real.float(), 4), (64, 64)).byte()
    noise = torch.randint(0, 256, real.shape, generator=torch.Generator().manual_seed(0)).byte()
    sets = (real, real[:1].expand(120, -1, -1, -1), noise)
    values = [kernel_distance(network.extract(levels).features, reference).value for levels in sets]
    assert values == sorted(values) and abs(values[0]) < 0.02
    assert kernel_distance(network.extract(blurred).features, reference).value > 5 * abs(values[0])
