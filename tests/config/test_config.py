"""The configuration: presets, overrides, strict JSON."""

import dataclasses
import json

import pytest

from stackgan.config import PRESETS, Config, preset


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_survives_json(name: str) -> None:
    config = preset(name)
    assert config.preset == name
    assert Config.from_dict(json.loads(config.to_json())) == config


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("optim.batch_size=8", "optim", "batch_size", 8),
        ("optim.lr_generator=1e-3", "optim", "lr_generator", 1e-3),
        ("train.minutes=5", "train", "minutes", 5.0),
        ("train.minutes=7.5", "train", "minutes", 7.5),
        ("discriminator.unconditional=False", "discriminator", "unconditional", False),
        ("text.encoder=some/model=x", "text", "encoder", "some/model=x"),
    ],
)
def test_overrides(override: str, section: str, key: str, value: object) -> None:
    changed = preset("modern", [override])
    assert getattr(getattr(changed, section), key) == value
    restored = dataclasses.replace(
        changed,
        **{
            section: dataclasses.replace(
                getattr(changed, section), **{key: getattr(getattr(preset("modern"), section), key)}
            )
        },
    )
    assert restored == preset("modern"), "an override changed more than its key"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.batch_size", ["section.key=value"]),
        ("optim.batchsize=8", ["optim.batchsize", "optim.batch_size"]),
        ("batch_size=8", ["batch_size"]),
        ("optim.batch_size=eight", ["optim.batch_size", "whole number"]),
        ("optim.batch_size=1", ["optim.batch_size", "2 or more"]),
        ("optim.lr_generator=-1", ["optim.lr_generator", "above 0"]),
        ("optim.channels_last=perhaps", ["optim.channels_last", "true or false"]),
        ("generator.block=new", ["generator.block", "legacy or fused"]),
        ("augment.policy=brightness,blur", ["augment.policy", "blur"]),
        ("tree.stages=6", ["tree.stages", "1 to 5"]),
    ],
)
def test_wrong_overrides_name_the_key(override: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        preset("modern", [override])
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda v: v["optim"].update(batch_sise=3), "optim.batch_sise"),
        (lambda v: v["optim"].update(batch_size="3"), "optim.batch_size"),
        (lambda v: v["optim"].update(batch_size=True), "optim.batch_size"),
        (lambda v: v.update(optim=3), "optim"),
        (lambda v: v.update(nosuch={}), "nosuch"),
    ],
)
def test_json_is_strict(change, word: str) -> None:  # type: ignore[no-untyped-def]
    values = preset("modern").to_dict()
    change(values)
    with pytest.raises(ValueError, match=word):
        Config.from_dict(values)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("latent.z=new", ["latent.z", "gaussian, vae, flow"]),
        ("latent.c=new", ["latent.c", "gaussian, flow"]),
        ("latent.family=new", ["latent.family", "nice", "nsf"]),
        ("latent.z=flow latent.dim=1", ["latent.dim", "2 or more"]),
    ],
)
def test_names_of_modules_are_checked_where_they_meet_classes(override: str, words: list[str]) -> None:
    from stackgan.model import StackGAN, check_choices

    config = preset("modern", ["text.dim=4", *override.split()])
    for act in (check_choices, StackGAN):
        with pytest.raises(ValueError) as caught:
            act(config)
        assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("text", ["1e400", "-1e400", "nan", "inf", "-Infinity"])
def test_overrides_are_finite_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"optim\.lr_generator is '.*': it must be a finite number"):
        preset("modern", [f"optim.lr_generator={text}"])


@pytest.mark.parametrize("text", ["9" * 30, "9" * 5000, "-" + "9" * 30])
def test_overrides_are_integers_of_a_usual_size(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"train\.images is '.{30,40}': it must be a whole number of at most 63 bits"
    ):
        preset("modern", [f"train.images={text}"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_of_a_file_are_finite(value: float) -> None:
    values = Config().to_dict()
    values["optim"]["lr_generator"] = value
    with pytest.raises(ValueError, match=r"run/config\.json: optim\.lr_generator is .*: it must be a finite number"):
        Config.from_dict(values, "run/config.json")


def test_a_value_out_of_its_range_is_named_with_its_file() -> None:
    values = Config().to_dict()
    values["tree"]["stages"] = 0
    with pytest.raises(ValueError, match=r"run/config\.json: tree\.stages is 0: it must be 1 to 5"):
        Config.from_dict(values, "run/config.json")


@pytest.mark.parametrize("value", [2**64, 2**63, -(2**63)])
def test_integers_of_a_file_have_a_usual_size(value: int) -> None:
    values = Config().to_dict()
    values["train"]["images"] = value
    with pytest.raises(
        ValueError, match=r"run/config\.json: train\.images is -?[0-9]{19,20}: it must be a finite number"
    ):
        Config.from_dict(values, "run/config.json")
