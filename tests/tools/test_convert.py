"""Published StackGAN-v2 weights: recorded outputs, names, shapes, and errors of other files."""

import io
import json
import pickle
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import stackgan.tools.convert
from data_prep.painted import prepare_painted
from stackgan.checkpoint import load_checkpoint, stored_discriminators
from stackgan.cli.main import main
from stackgan.config import preset
from stackgan.data.prepared import PreparedFolder
from stackgan.io.run_state import load_state
from stackgan.model import StackGAN, build_discriminators
from stackgan.pipeline import StackGANPipeline
from stackgan.tools.convert import convert, convert_back, read_weights
from stackgan.training.losses import colour_statistics
from tests.text.test_contrastive import SETTINGS, make_split
from tests.tiny import save_tiny_checkpoint

State = dict[str, Tensor]


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    return shared / "golden" / "stackgan_v2_tiny"


@pytest.fixture(scope="session")
def netg(golden: Path) -> State:
    return read_weights(golden / "netG_2000.pth")


@pytest.fixture(scope="session")
def netds(golden: Path) -> list[State]:
    return [read_weights(golden / f"netD{i}.pth") for i in range(3)]


@pytest.fixture(scope="session")
def converted(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "tiny"
    convert(golden / "netG_2000.pth", [golden / f"netD{i}.pth" for i in (2, 0, 1)], out)
    return out


def _discriminators(checkpoint: Path) -> nn.ModuleList:
    """Load the discriminators of a checkpoint, coarsest first."""
    weights = stored_discriminators(checkpoint)
    assert weights is not None
    networks = build_discriminators(load_checkpoint(checkpoint).config)
    networks.load_state_dict(weights)
    return networks


# --- the recorded outputs -----------------------------------------------------------------------------------


@torch.inference_mode()
def test_every_recorded_tensor_is_reproduced(golden: Path, converted: Path) -> None:
    expected = load_file(golden / "expected.safetensors")
    pipe = StackGANPipeline.from_pretrained(converted, device="cpu")
    discriminators = _discriminators(converted).eval()
    inputs = {"text_embedding", "ca_noise", "z"}

    q = pipe.model.condition(expected["text_embedding"])
    c = q.sample(noise=expected["ca_noise"])
    images = pipe.generator(expected["z"], c)
    mean, covariance = colour_statistics(images[-1])
    found = {"mu": q.mu, "logvar": q.logvar, "c_code": c, "kl_loss": q.kl().mean()[None] / q.mu.shape[1]}
    found |= {"color_mean_last": mean[:, :, None, None], "color_cov_last": covariance}
    for size, image, discriminator in zip(pipe.sizes, images, discriminators, strict=True):
        h = discriminator.features(image)
        found[f"image_{size}"] = image
        found[f"cond_prob_{size}"] = discriminator.conditional(h, q.mu).sigmoid()
        found[f"uncond_prob_{size}"] = discriminator.unconditional(h).sigmoid()

    assert found.keys() | inputs == expected.keys()
    for name, tensor in found.items():
        assert tensor.shape == expected[name].shape, name
        assert (tensor - expected[name]).abs().max() <= 1e-5, name


def test_the_sizes_are_those_of_the_published_configuration(golden: Path, converted: Path) -> None:
    original = json.loads((golden / "config.json").read_text())
    config = load_checkpoint(converted).config
    assert config.preset == "legacy"
    assert config.tree.stages == original["BRANCH_NUM"]
    assert config.latent.dim == original["Z_DIM"]
    assert config.text.dim == original["TEXT_DIMENSION"]
    assert config.text.code_dim == original["EMBEDDING_DIM"]
    assert config.text.encoder == "precomputed:char-cnn-rnn"
    assert not config.text.standardise
    assert (config.generator.width, config.generator.residuals) == (original["GF_DIM"], original["R_NUM"])
    assert config.discriminator.width == original["DF_DIM"]


def test_the_checkpoint_takes_embeddings_and_rejects_captions(converted: Path) -> None:
    pipe = StackGANPipeline.from_pretrained(converted, device="cpu")
    out = pipe(embeddings=torch.zeros(1, 48), seeds=[0, 1])
    assert [[image.size for image in stage] for stage in out.stages] == [[(s, s)] * 2 for s in (64, 128, 256)]
    with pytest.raises(ValueError, match="has no text encoder"):
        pipe(["a bird"], seeds=[0])


def test_every_weight_of_ours_is_from_one_of_theirs(netg: State, converted: Path) -> None:
    ours = load_checkpoint(converted).weights
    extra = {name for name in ours if name.endswith("num_batches_tracked") or name.startswith("standardise.")}
    with torch.device("meta"):
        assert ours.keys() == StackGAN(load_checkpoint(converted).config).state_dict().keys()
    total = sum(tensor.double().sum() for tensor in netg.values())
    assert len(ours) - len(extra) == len(netg)
    assert sum(ours[name].double().sum() for name in ours.keys() - extra) == pytest.approx(float(total))


def test_the_folder_can_be_read_by_others_and_has_a_card(converted: Path) -> None:
    files = {file.name for file in converted.iterdir()}
    assert files == {"README.md", "config.json", "model.safetensors", "discriminators.safetensors"}
    modes = {stat.S_IMODE(file.stat().st_mode) for file in converted.iterdir()}
    assert len(modes) == 1, "all files have the mode that the process gives new files"
    card = (converted / "README.md").read_text()
    assert "netG_2000.pth" in card
    assert "48 dimensions" in card


# --- captions for published weights -------------------------------------------------------------------------


def test_published_weights_take_captions_by_an_encoder_taught_on_stored_embeddings(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    split = make_split(data, 16)
    command = ["convert", str(golden / "netG_2000.pth"), "--out", str(out), "--text-from", str(data)]
    assert main(command) == 2
    assert "no embeddings 'char-cnn-rnn'" in capsys.readouterr().err
    rows = np.random.default_rng(0).standard_normal((len(split.captions), 48)).astype(np.float32)
    split.store_embeddings("char-cnn-rnn", rows[:, :40])
    assert main(command) == 2
    assert "its embeddings have 40 dimensions, the generator takes 48" in capsys.readouterr().err and not out.exists()
    split.store_embeddings("char-cnn-rnn", rows)
    quick = replace(SETTINGS, steps=2)
    monkeypatch.setattr(stackgan.tools.convert, "CompactConfig", lambda **given: replace(quick, **given))
    assert main(command) == 0
    pipe = StackGANPipeline.from_pretrained(out, device="cpu")
    assert pipe(split.captions[0], seeds=0).images[0].size == (256, 256)
    assert pipe.encode([split.captions[0]]).shape == (1, 48)
    assert "predicted from captions by a compact encoder" in (out / "README.md").read_text()


# --- back to the published format ---------------------------------------------------------------------------


@pytest.mark.parametrize("counter", [0, 7])
def test_back_and_forth_gives_the_same_bits(
    golden: Path, netg: State, netds: list[State], tmp_path: Path, counter: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def counted(state: State) -> State:
        names = [key.replace("running_mean", "num_batches_tracked") for key in state if "running_mean" in key]
        return state | {name: torch.tensor(counter) for name in names if counter}

    published = {"netG_2000.pth": counted(netg)} | {f"netD{i}.pth": counted(netd) for i, netd in enumerate(netds)}
    for name, state in published.items():
        torch.save(state, tmp_path / name)
    checkpoint, out = tmp_path / "checkpoint", tmp_path / "out"
    convert(tmp_path / "netG_2000.pth", [tmp_path / f"netD{i}.pth" for i in range(3)], checkpoint)
    assert main(["convert", str(checkpoint), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"published format in {out}\n"
    assert sorted(file.name for file in out.iterdir()) == sorted(published)
    for name, state in published.items():
        found = torch.load(out / name, weights_only=True)
        assert found.keys() == state.keys()
        for key, tensor in state.items():
            assert found[key].dtype == tensor.dtype and found[key].shape == tensor.shape
            assert found[key].numpy().tobytes() == tensor.numpy().tobytes(), f"{name}: {key}"
    assert main(["convert", str(checkpoint), "--out", str(out)]) == 2
    assert "name another folder" in capsys.readouterr().err


def test_only_what_stackgan_v2_has_is_written_in_its_format(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fused = save_tiny_checkpoint(tmp_path / "fused", stages=1)
    learned = tmp_path / "learned"
    overrides = ["text.encoder=precomputed:any", "text.dim=8", "generator.width=8", "tree.stages=1"]
    model = StackGAN(preset("legacy", [*overrides, "latent.z=vae", "latent.prior=learned"]))
    StackGANPipeline(model, None).save_pretrained(learned)
    scaled = tmp_path / "scaled"
    model = StackGAN(preset("legacy", overrides))
    model.standardise.scale.fill_(2)
    StackGANPipeline(model, None).save_pretrained(scaled)
    for checkpoint, message in (
        (fused, "its generator is not StackGAN-v2's"),
        (learned, "is not part of StackGAN-v2"),
        (scaled, "text.standardise is true"),
    ):
        with pytest.raises(ValueError, match=message):
            convert_back(checkpoint, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert main(["convert", str(converted), "--netd", "netD0.pth", "--out", str(tmp_path / "out")]) == 2
    assert "leave --netd and --text-from out" in capsys.readouterr().err
    convert_back(converted, tmp_path / "out")
    assert (tmp_path / "out" / "netD2.pth").is_file()


# --- modified networks: every tensor in turn ----------------------------------------------------------------


def refused(monkeypatch: pytest.MonkeyPatch, out: Path, state: State, netds: list[State] | None = None) -> str:
    """The error of ``convert`` for these tensors."""
    states = {"netG.pth": state} | {f"netD{i}.pth": netd for i, netd in enumerate(netds or [])}
    monkeypatch.setattr(stackgan.tools.convert, "read_weights", lambda file, kind="": dict(states[file.name]))
    with pytest.raises(ValueError) as caught:
        convert(Path("netG.pth"), [Path(f"netD{i}.pth") for i in range(len(netds or []))], out)
    assert not out.exists()
    line = str(caught.value)
    assert "\n" not in line
    return line


def without(state: State, key: str) -> State:
    return {name: tensor for name, tensor in state.items() if name != key}


def reshaped(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor with each axis longer by one in turn, and flattened if it has several axes."""
    for axis in range(tensor.ndim):
        yield torch.cat((tensor, tensor.narrow(axis, 0, 1)), axis)
    if tensor.ndim > 1:
        yield tensor.flatten()


# These two may have any number of columns: the text or latent dimension.
FREE = {("module.ca_net.fc.weight", 1), ("module.h_net1.fc.0.weight", 1)}


def test_a_renamed_key_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, netg: State) -> None:
    for key in netg:
        doctored = without(netg, key) | {key + "_renamed": netg[key]}
        line = refused(monkeypatch, tmp_path / "out", doctored)
        assert f"{key}_renamed is not a name of StackGAN-v2's generator; {key} is missing" in line


def test_a_key_moved_to_another_module_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, netg: State) -> None:
    for key, moved in (
        ("module.img_net3.img.0.weight", "module.img_net4.img.0.weight"),
        ("module.h_net3.upsample.1.weight", "module.h_net4.upsample.1.weight"),
        ("module.h_net2.residual.1.block.0.weight", "module.h_net2.residual.2.block.0.weight"),
        ("module.h_net1.fc.1.bias", "h_net1.fc.1.bias"),
    ):
        line = refused(monkeypatch, tmp_path / "out", without(netg, key) | {moved: netg[key]})
        assert moved in line
        assert f"{key} is missing" in line


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, netg: State) -> None:
    for key in netg:
        assert f"{key} is missing" in refused(monkeypatch, tmp_path / "out", without(netg, key))


def test_a_wrong_shape_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, netg: State) -> None:
    shapes = {key: torch.empty(tensor.shape, device="meta") for key, tensor in netg.items()}
    for key, tensor in shapes.items():
        for axis, wrong in enumerate(reshaped(tensor)):
            if (key, axis) not in FREE:
                doctored = {name: netg[name] for name in netg} | {key: wrong}
                assert f"{key} has shape {tuple(wrong.shape)}" in refused(monkeypatch, tmp_path / "out", doctored)


def test_values_that_are_no_numbers_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, netg: State) -> None:
    key = "module.h_net2.upsample.1.weight"
    for value in (netg[key] * torch.nan, netg[key].int()):
        assert f"{key} does not hold finite" in refused(monkeypatch, tmp_path / "out", netg | {key: value})


def test_a_generator_without_text_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, netg: State) -> None:
    state = {key: tensor for key, tensor in netg.items() if ".ca_net." not in key}
    assert "trained without text" in refused(monkeypatch, tmp_path / "out", state)


def test_doctored_discriminators_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, netg: State, netds: list[State]
) -> None:
    for stage, netd in enumerate(netds):
        for key, tensor in netd.items():
            others = list(netds)
            others[stage] = without(netd, key)
            assert f"netD{stage}.pth: {key} is missing" in refused(monkeypatch, tmp_path / "out", netg, others)
            others[stage] = netd | {key: torch.cat((tensor, tensor[:1]))}
            assert f"netD{stage}.pth: {key} has shape" in refused(monkeypatch, tmp_path / "out", netg, others)


def test_discriminators_have_to_match_the_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, netg: State, netds: list[State]
) -> None:
    out = tmp_path / "out"
    assert "there is none for 256 px" in refused(monkeypatch, out, netg, netds[:2])
    assert "netD2.pth: a discriminator for 64 px, as netD0.pth" in refused(
        monkeypatch, out, netg, [*netds[:2], netds[0]]
    )
    assert "not a StackGAN-v2 discriminator" in refused(monkeypatch, out, netg, [netg])
    assert "not a StackGAN-v2 generator" in refused(monkeypatch, out, netds[0])


def test_counters_of_younger_batch_norms_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, netg: State
) -> None:
    counters = {
        key.replace("running_mean", "num_batches_tracked"): torch.tensor(7) for key in netg if "running_mean" in key
    }
    monkeypatch.setattr(stackgan.tools.convert, "read_weights", lambda file, kind="": netg | counters)
    monkeypatch.setattr(stackgan.tools.convert, "_sha256", lambda file: "")
    convert(Path("netG.pth"), [], tmp_path / "out")
    weights = load_checkpoint(tmp_path / "out").weights
    assert {int(tensor) for name, tensor in weights.items() if name.endswith("num_batches_tracked")} == {7}


# --- files --------------------------------------------------------------------------------------------------


def write_torch_03(file: Path, state: State) -> None:
    """Write the format of a GPU state dict by Python 2.7 with torch 0.3: byte strings, CUDA storages, no ZIP."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    def tensor(key: str, value: Tensor) -> bytes:
        storage = b"(" + text("storage") + b"ctorch.cuda\nFloatStorage\n" + text(key) + text("cuda:0")
        storage += b"J" + struct.pack("<i", value.numel()) + b"NtQ"
        shape = numbers(tuple(value.shape)) + numbers(value.stride())
        return b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"J" + struct.pack("<i", 0) + shape + b"tR"

    keys = {name: str(140_000_000 + i) for i, name in enumerate(state)}
    items = b"".join(
        b"](" + text(name) + tensor(keys[name], value.contiguous()) + b"e" for name, value in state.items()
    )
    with file.open("wb") as stream:
        for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}):
            pickle.dump(header, stream, 2)
        stream.write(b"\x80\x02ccollections\nOrderedDict\n](" + items + b"e\x85R.")
        stream.write(b"\x80\x02](" + b"".join(text(key) for key in keys.values()) + b"e.")
        for value in state.values():
            stream.write(struct.pack("<q", value.numel()) + value.contiguous().numpy().tobytes())


def test_files_of_any_age_hold_the_same(tmp_path: Path, golden: Path, netg: State) -> None:
    old = tmp_path / "netG_3.pth"
    write_torch_03(old, netg)
    plain = tmp_path / "netG_4.pth"
    torch.save(netg, plain, _use_new_zipfile_serialization=False)
    around = tmp_path / "birds.zip"
    with zipfile.ZipFile(around, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(old, "birds/netG_210000.pth")
        archive.writestr("__MACOSX/birds/._netG_210000.pth", b"not it")
        archive.writestr("birds/notes.txt", b"hello")
    young_around = tmp_path / "young.zip"
    with zipfile.ZipFile(young_around, "w") as archive:
        archive.write(golden / "netG_2000.pth", "netG_2000.pth")
    for file in (old, plain, around, young_around):
        found = read_weights(file, "netG")
        assert found.keys() == netg.keys()
        assert all(torch.equal(found[key], netg[key]) for key in netg), file.name


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.module.",
        "_orig_mod.",
        "_orig_mod.module.",
        "netG.",
        "generator.module.",
        "_forward_module.",
        "a.b.",
    ],
)
@pytest.mark.parametrize("nested", ["", "state_dict", "model", "G_ema"])
def test_weights_saved_under_other_wrappers_are_read(tmp_path: Path, netg: State, prefix: str, nested: str) -> None:
    """Saved without DataParallel, inside two wrappers, after torch.compile, or as one entry of a dictionary."""
    state = {prefix + key.removeprefix("module."): tensor for key, tensor in netg.items()}
    optimizer = {"state": {0: {"step": torch.tensor(3)}}, "param_groups": [{"lr": 1e-4}]}
    torch.save({nested: state, "optimizer": optimizer, "epoch": 3} if nested else state, tmp_path / "netG.pth")
    read = read_weights(tmp_path / "netG.pth")
    assert read.keys() == netg.keys() and all(torch.equal(read[key], netg[key]) for key in netg)


def test_one_file_with_several_networks(tmp_path: Path, netg: State, netds: list[State]) -> None:
    file = tmp_path / "checkpoint.pth"
    torch.save({"netG": netg, "netD0": netds[0], "netD1": netds[1], "epoch": 3}, file)
    read = read_weights(file, "netG")
    assert read.keys() == netg.keys() and all(torch.equal(read[key], netg[key]) for key in netg)
    torch.save({"a": netg, "b": netds[0]}, file)
    with pytest.raises(ValueError, match=r"checkpoint\.pth: holds several networks: a, b; save the one you want"):
        read_weights(file, "netG")


def test_a_zip_with_several_networks_takes_the_generator(tmp_path: Path, golden: Path) -> None:
    file = tmp_path / "all.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("netD0.pth", "netG_2000.pth"):
            archive.write(golden / name, name)
    convert(file, [], tmp_path / "out")
    assert load_checkpoint(tmp_path / "out").config.tree.stages == 3
    with zipfile.ZipFile(file, "a") as archive:
        archive.write(golden / "netG_2000.pth", "netG_4000.pth")
    with pytest.raises(ValueError, match=r"holds several: netG_2000.pth, netG_4000.pth"):
        convert(file, [], tmp_path / "other")


class Malicious:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def wrong_files(folder: Path, golden: Path) -> dict[str, str]:
    """Write files that are not checkpoints to ``folder``; returns names and expected messages."""
    content = (golden / "netG_2000.pth").read_bytes()
    (folder / "text.pth").write_text("not a checkpoint\n" * 100)
    (folder / "empty.pth").write_bytes(b"")
    (folder / "noise.pth").write_bytes(bytes(range(256)) * 40)
    (folder / "half.pth").write_bytes(content[: len(content) // 2])
    (folder / "short.pth").write_bytes(b"PK\x03\x04")
    torch.save(torch.zeros(3), folder / "tensor.pth")
    torch.save({"epoch": 3}, folder / "number.pth")
    torch.save({"module.h_net1.fc.0.weight": torch.zeros(3)}, folder / "other.pth")
    torch.save({}, folder / "nothing.pth")
    torch.save({"x": Malicious(folder / "was-run")}, folder / "evil-zip.pth")
    torch.save({"x": Malicious(folder / "was-run")}, folder / "evil-old.pth", _use_new_zipfile_serialization=False)
    (folder / "evil.pth").write_bytes(pickle.dumps(Malicious(folder / "was-run")))
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"")
    with zipfile.ZipFile(folder / "evil.zip", "w") as archive:
        archive.write(folder / "evil-zip.pth", "netG_1.pth")
    with tarfile.open(folder / "tar.pth", "w") as archive_tar:
        archive_tar.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    return {
        "missing.pth": "no such file",
        "text.pth": "not a PyTorch checkpoint",
        "empty.pth": "not a PyTorch checkpoint",
        "noise.pth": "not a PyTorch checkpoint",
        "half.pth": "a ZIP that cannot be read",
        "short.pth": "a ZIP that cannot be read",
        "tensor.pth": "holds a Tensor",
        "number.pth": "epoch is of type int",
        "other.pth": "not a StackGAN-v2 generator",
        "nothing.pth": "not a table of named tensors",
        "evil-zip.pth": "no code in it was executed",
        "evil-old.pth": "no code in it was executed",
        "evil.pth": "not a PyTorch checkpoint",
        "photos.zip": "holds none",
        "evil.zip": "no code in it was executed",
        "tar.pth": "before 0.2",
    }


def test_other_files_end_in_one_line_and_are_never_unpickled(
    tmp_path: Path, golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, said in wrong_files(tmp_path, golden).items():
        assert main(["convert", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2, name
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        assert name in captured.err
        assert said in captured.err, captured.err
    assert not (tmp_path / "was-run").exists()
    assert not (tmp_path / "out").exists()


def test_the_command_names_a_doctored_key(tmp_path: Path, netg: State, capsys: pytest.CaptureFixture[str]) -> None:
    key = "module.h_net2.jointConv.0.weight"
    torch.save(without(netg, key), tmp_path / "netG_1.pth")
    assert main(["convert", str(tmp_path / "netG_1.pth"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"stackgan: {tmp_path}/netG_1.pth: {key} is missing: not the published network, or a damaged copy"
    ]


def test_the_command_converts(tmp_path: Path, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    netd = [str(golden / f"netD{i}.pth") for i in range(3)]
    assert main(["convert", str(golden / "netG_2000.pth"), "--netd", *netd, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"checkpoint in {out}\n"
    before = (out / "model.safetensors").read_bytes()
    assert main(["convert", str(golden / "netG_2000.pth"), "--out", str(out)]) == 2
    assert "name another folder" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == before


def test_missing_or_damaged_discriminators(tmp_path: Path, golden: Path) -> None:
    convert(golden / "netG_2000.pth", [], tmp_path / "plain")
    assert stored_discriminators(tmp_path / "plain") is None
    (tmp_path / "plain" / "discriminators.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="damaged"):
        stored_discriminators(tmp_path / "plain")


def test_the_original_trains_on_with_its_discriminators(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One step on other data from the published weights changes every weight by at most one small step."""
    data, run = tmp_path / "data", tmp_path / "run"
    prepare_painted(data, count=4, seed=0, size=256, test_count=1, workers=1)
    for split in PreparedFolder.open(data).splits.values():
        rows = np.random.default_rng(0).standard_normal((len(split.captions), 48), np.float32)
        split.store_embeddings("char-cnn-rnn", rows)
    use = ["train", "--data", str(data), "--run", str(run), "--start-from", str(converted), "--device", "cpu"]
    assert main([*use, "train.images=2", "optim.batch_size=2", "eval.count=10"]) == 0
    assert "newly initialised: nothing" in capsys.readouterr().out
    state = load_state(run / "state.pt")
    for ours, theirs in (
        (state["model"], load_checkpoint(converted).weights),
        (state["discriminators"], _discriminators(converted).state_dict()),
    ):
        assert ours.keys() == theirs.keys()
        trained = [name for name in theirs if "running_" not in name and "batches" not in name]
        assert any(not torch.equal(ours[name], theirs[name]) for name in trained)
        for name in trained:  # Adam's first step is the learning rate
            torch.testing.assert_close(ours[name], theirs[name], atol=1e-3, rtol=0)
