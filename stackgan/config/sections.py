"""The sections of the configuration, a frozen dataclass each: what a key means, and which values it takes."""

from __future__ import annotations

from dataclasses import dataclass

from stackgan.config.parsing import ABOVE_0, FROM_0, FROM_1, SHARE, check, check_fields

__all__ = [
    "AUGMENTATIONS",
    "BASE_SIZE",
    "MAX_SEED",
    "POOLINGS",
    "AugmentConfig",
    "CompactConfig",
    "DiscriminatorConfig",
    "EvalConfig",
    "GeneratorConfig",
    "LatentConfig",
    "LossConfig",
    "OptimConfig",
    "TextConfig",
    "TrainConfig",
    "TreeConfig",
]

BASE_SIZE = 64  # pixels of the first stage; every further stage doubles it
MAX_SEED = 2**63 - 1  # the largest that torch.Generator takes
POOLINGS = ("auto", "mean", "cls", "eos", "pooler", "last")  # of token states: text/pretrained.py
AUGMENTATIONS = ("brightness", "saturation", "contrast", "translation", "cutout")


@dataclass(frozen=True)
class TreeConfig:
    """The tree: ``stages`` resolutions, 64 px doubled at each."""

    stages: int = 1

    def __post_init__(self) -> None:
        check(1 <= self.stages <= 5, "tree.stages", self.stages, "1 to 5 (64 to 1024 px)")

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(BASE_SIZE << stage for stage in range(self.stages))


@dataclass(frozen=True)
class TextConfig:
    """Where embeddings come from and how they become conditioning codes.

    ``encoder``: ``compact`` (trained with the run and shipped in the checkpoint), a transformers hub name or
    folder, ``precomputed:NAME`` (embeddings stored in the prepared folder), or ``none`` (unconditional).
    ``dim``: T, filled in from the encoder when 0. ``standardise``: give every embedding dimension zero mean and
    the whole unit variance, measured on the training captions. ``reword``: the share of captions that training sees
    cut short or in other words, as people type them (:mod:`stackgan.captions.augmentation`).
    """

    encoder: str = "compact"
    pooling: str = "auto"
    dim: int = 0
    code_dim: int = 128
    standardise: bool = True
    reword: float = 0.0

    def __post_init__(self) -> None:
        check(bool(self.encoder), "text.encoder", self.encoder, "compact, none, precomputed:NAME, or a model")
        check(self.pooling in POOLINGS, "text.pooling", self.pooling, "one of " + ", ".join(POOLINGS))
        check(self.dim >= 0, "text.dim", self.dim, "0 (as the encoder has) or more")
        check_fields(self, "text", FROM_1, "code_dim")
        check_fields(self, "text", SHARE, "reword")
        reads = self.encoder != "none" and not self.encoder.startswith("precomputed:")
        check(
            not self.reword or reads,
            "text.reword",
            self.reword,
            f"0 with text.encoder={self.encoder}, which reads no text",
        )

    @property
    def conditional(self) -> bool:
        return self.encoder != "none"


@dataclass(frozen=True)
class CompactConfig:
    """The compact caption encoder: its size, and its training by image–caption contrast.

    ``vocabulary``: of word pieces. ``teacher``: a transformers sentence encoder (hub name or folder) that gives the
    encoder ordinary English, 12,000 to 20,000 pieces of it for ``vocabulary``; none when empty. ``distil`` and
    ``paraphrase``: weights of answering as the teacher does, and of captions in other words, beside the contrast.
    """

    width: int = 128
    layers: int = 2
    heads: int = 4
    dim: int = 256
    vocabulary: int = 4000
    max_tokens: int = 64
    steps: int = 1500
    batch_size: int = 96
    learning_rate: float = 1e-3
    image_size: int = 64
    teacher: str = ""
    distil: float = 1.0
    paraphrase: float = 1.0

    def __post_init__(self) -> None:
        check_fields(
            self,
            "compact",
            ABOVE_0,
            "width",
            "layers",
            "heads",
            "dim",
            "steps",
            "batch_size",
            "learning_rate",
            "image_size",
        )
        check(
            self.width % self.heads == 0,
            "compact.width",
            self.width,
            f"a multiple of compact.heads={self.heads}",
        )
        check(self.vocabulary >= 100, "compact.vocabulary", self.vocabulary, "100 or more")
        check_fields(self, "compact", FROM_0, "distil", "paraphrase")
        check(self.max_tokens >= 8, "compact.max_tokens", self.max_tokens, "8 or more")


@dataclass(frozen=True)
class LatentConfig:
    """The latent modules: z, the image's style, and c's marginal, what captions look like.

    ``z``: ``gaussian`` (N(0, I), as published), ``vae`` (a posterior q(z | x, c) is trained with G as its decoder)
    or ``flow`` (the same, and the prior is a normalizing flow). ``dim``: Z. ``prior``: of ``vae``, ``standard`` or
    ``learned`` N(m(c), s(c)). ``context``: what a flow prior looks at: ``none``, p(z), or the ``caption``, p(z | c),
    which fits styles to captions like the training's and worse ones to new combinations of words. ``c``: ``gaussian``
    or ``flow``, p(c) for images without text and for the density of captions. ``family``, ``steps``, ``hidden``:
    the flows. ``width``: of q(z | x, c). ``beta``: weight of KL(q ‖ p), which is a mean over batch and dimensions,
    reached after the first ``warm_up`` (a share) of the run; ``free_bits``: nats a dimension below which it costs
    nothing. ``reconstruction``, ``features``: weights of the mean absolute error of images, and of the
    discriminators' features.
    """

    z: str = "gaussian"
    dim: int = 100
    prior: str = "standard"
    context: str = "none"
    c: str = "gaussian"
    family: str = "glow"
    steps: int = 6
    hidden: int = 128
    width: int = 32
    beta: float = 1.0
    warm_up: float = 0.1
    free_bits: float = 0.02
    reconstruction: float = 40.0
    features: float = 2.0

    def __post_init__(self) -> None:
        check(self.prior in ("standard", "learned"), "latent.prior", self.prior, "standard or learned")
        check(self.context in ("none", "caption"), "latent.context", self.context, "none or caption")
        check_fields(self, "latent", FROM_1, "dim", "steps", "hidden", "width")
        check_fields(self, "latent", FROM_0, "beta", "free_bits", "reconstruction", "features")
        check_fields(self, "latent", SHARE, "warm_up")


@dataclass(frozen=True)
class GeneratorConfig:
    """``block``: ``legacy`` (published: BatchNorm + GLU) or ``fused`` (text in every block, residual).

    ``width``: channels at 64 px; deeper layers are multiples of it, and every later stage has half of the one
    before. ``narrowest``: channels that no stage has fewer of. ``residuals``: residual blocks a later stage, before
    its upsampling. ``refine``: further ones behind it, at the side of its image (fused blocks alone).
    ``image_skip``: a later stage's image is the bicubically enlarged image of the stage before plus what its head
    adds (fused blocks alone; the output skips of StyleGAN2, arXiv:1912.04958, figure 7).
    """

    block: str = "fused"
    width: int = 32
    narrowest: int = 4
    residuals: int = 1
    refine: int = 0
    image_skip: bool = False

    def __post_init__(self) -> None:
        check(self.block in ("legacy", "fused"), "generator.block", self.block, "legacy or fused")
        check(self.width >= 4, "generator.width", self.width, "4 or more")
        check(self.narrowest >= 4, "generator.narrowest", self.narrowest, "4 or more")
        check_fields(self, "generator", FROM_0, "residuals")
        refines = self.refine >= 0 and (self.block == "fused" or not self.refine)
        check(refines, "generator.refine", self.refine, "0 or more; 0 with generator.block=legacy")
        skips = self.block == "fused" or not self.image_skip
        check(skips, "generator.image_skip", self.image_skip, "false with generator.block=legacy")
        narrow = self.block == "fused" or self.narrowest == 4
        check(narrow, "generator.narrowest", self.narrowest, "4 with generator.block=legacy")


@dataclass(frozen=True)
class DiscriminatorConfig:
    """``block``: ``legacy`` (published: BatchNorm) or ``residual`` (no normalisation).

    ``condition``: what the conditional head sees, the ``code`` (mu of CA_NET, as published) or the ``embedding``.
    ``unconditional``: whether there is an unconditional head beside the conditional one. ``match``: weight of a third
    head's loss, which is to find an image's caption among the batch's: real ones in D's step, generated ones in G's.
    ``minibatch_std``: the residual trunk's last features are told how much four images of the batch differ.
    ``patch``: side in pixels of the random crops that the discriminators of larger stages judge, a power of two from
    64, 0 for whole images (PatchGAN's idea, arXiv:1611.07004, section 3.2, with one logit a crop); the finest stage
    of G is then computed at the crop alone.
    ``features``: name or folder of a frozen image classifier (``efficientnet-lite0``, see
    stackgan/networks/frozen_features.py) whose maps a further discriminator of the finest stage judges (Projected
    GAN, arXiv:2111.01007), empty for none; ``features_weight``: of that in G's loss; ``features_maps``: how many of
    its maps, from the one at a quarter of the side to that at a 32nd.
    """

    block: str = "residual"
    width: int = 32
    condition: str = "embedding"
    unconditional: bool = True
    match: float = 0.0
    minibatch_std: bool = False
    patch: int = 0
    features: str = ""
    features_weight: float = 0.3
    features_maps: int = 3

    def __post_init__(self) -> None:
        check(self.block in ("legacy", "residual"), "discriminator.block", self.block, "legacy or residual")
        check(self.width >= 2, "discriminator.width", self.width, "2 or more")
        conditions = ("code", "embedding")
        check(self.condition in conditions, "discriminator.condition", self.condition, "code or embedding")
        check_fields(self, "discriminator", FROM_0, "match")
        fits = self.block == "residual" or not self.minibatch_std
        check(fits, "discriminator.minibatch_std", self.minibatch_std, "false with discriminator.block=legacy")
        power = self.patch == 0 or (self.patch >= BASE_SIZE and self.patch & (self.patch - 1) == 0)
        check(power, "discriminator.patch", self.patch, "0 (whole images) or a power of two from 64")
        check(self.features_weight >= 0, "discriminator.features_weight", self.features_weight, "0 or more")
        check(self.features_maps in (1, 2, 3, 4), "discriminator.features_maps", self.features_maps, "1, 2, 3 or 4")


@dataclass(frozen=True)
class LossConfig:
    """``adversarial``: ``bce`` (published targets), ``hinge``, or ``relativistic`` (real and fake in pairs).

    ``mismatch``: the wrong pair is a wrong ``photo`` (as published, a pass of its own) or a wrong ``caption``
    (DF-GAN's way, shares the pass). ``mismatch_hard``: the share of wrong pairs that use the same words (the
    caption with two words swapped, or another image's). ``penalty``: weight of the zero-centred gradient penalty
    on (real photo, true caption), applied every ``penalty_every`` steps; 0 switches it off. ``penalty_power``: p in
    E[(|grad_x| + |grad_e|)^p] (DF-GAN: weight 2, power 6), 2 gives R1's form. ``penalty_fakes``: the same penalty
    at generated images too (R2, as R3GAN has it). ``kl``: weight of CA_NET's KL, which is a mean over batch and
    dimensions (at 1, codes keep two thirds of a caption's colours; at 0.05, nearly all). ``contrast``: weight of
    the contrast of generated images with captions, read by the compact encoder's image half
    (``text.encoder=compact``). ``diversity``: weight of mode seeking between two images of one caption, until
    they differ ``diversity_share`` times as much as real images of different captions do. ``colour``: weight of
    the colour consistency between stages. ``coarse``: weight of the adversarial loss of the first stage's
    discriminator on the finest images averaged down to 64 px, on a quarter of the batch, where the lower stages are
    frozen (optim.lower_rate=0).
    """

    adversarial: str = "hinge"
    mismatch: str = "caption"
    mismatch_hard: float = 0.0
    penalty: float = 0.1
    penalty_power: int = 2
    penalty_every: int = 8
    penalty_fakes: bool = False
    kl: float = 0.05
    contrast: float = 0.0
    diversity: float = 0.0
    diversity_share: float = 0.5
    colour: float = 0.0
    coarse: float = 0.0

    def __post_init__(self) -> None:
        kinds = ("bce", "hinge", "relativistic")
        check(self.adversarial in kinds, "loss.adversarial", self.adversarial, "one of " + ", ".join(kinds))
        check(self.mismatch in ("photo", "caption"), "loss.mismatch", self.mismatch, "photo or caption")
        check_fields(self, "loss", SHARE, "mismatch_hard")
        check_fields(self, "loss", FROM_0, "penalty", "kl", "contrast", "diversity", "colour", "coarse")
        check(self.penalty_power in (2, 4, 6), "loss.penalty_power", self.penalty_power, "2, 4 or 6")
        check_fields(self, "loss", FROM_1, "penalty_every")
        check(0 < self.diversity_share <= 1, "loss.diversity_share", self.diversity_share, "above 0, at most 1")


@dataclass(frozen=True)
class AugmentConfig:
    """DiffAugment (arXiv:2006.10738) on everything a discriminator sees: names joined by commas, or empty."""

    policy: str = ""
    probability: float = 1.0

    def __post_init__(self) -> None:
        for name in self.names:
            check(name in AUGMENTATIONS, "augment.policy", name, "made of " + ", ".join(AUGMENTATIONS))
        check_fields(self, "augment", SHARE, "probability")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.policy.split(",") if name.strip())


@dataclass(frozen=True)
class OptimConfig:
    """Adam, two time scales, EMA of G (with a ramp: min(average, (1 + t) / (10 + t))).

    ``standing``: images that the EMA generator's BatchNorm statistics are recalibrated on wherever it is saved, shown
    or evaluated, 0 takes over the live generator's, as published.
    ``discriminator_first``: until so many images are seen, G and its EMA stand still and the discriminators
    learn alone: for a start from a checkpoint that brings none (``--start-from``): untrained
    discriminators would degrade its G.
    ``decay_images``: once so many are seen, rates fall as 1 / √images, 0 keeps them constant; ``decay_from``: from
    this share of the run on they fall linearly to 5 % of that as well. ``precision``: of convolutions and matrix
    products, ``fp32``, ``tf32`` (the same on a CPU) or ``bf16``. ``accumulate``: the discriminators look at a batch
    in so many parts, one after the other, and their gradients are added up, which is the same step in less memory;
    under BatchNorm (discriminator.block=legacy) each part is normalised by its own statistics, as a batch of that
    size would be, with discriminator.match a caption's rivals are those of its part, and with
    discriminator.minibatch_std an image's neighbours. G generates the batch in one.
    ``checkpointing``: feature maps within blocks are computed again instead of kept: the same step in less memory
    and more time. ``compile``: G and the discriminators' trunks by torch.compile (gradient penalties stay as they
    are). ``cuda_graphs``: a step is recorded once and replayed, on a GPU: the same step without the time that Python
    takes to launch its kernels; for latent.z=gaussian and latent.c=gaussian.
    ``lower_rate``: factor on the learning rates of everything below the tree's finest stage: CA_NET, the latent
    modules, the lower stages and their discriminators. 0 freezes them (no gradient, their BatchNorm statistics stay):
    for a tree that is grown stage by stage with ``--start-from``.
    """

    batch_size: int = 16
    lr_generator: float = 2e-4
    lr_discriminator: float = 4e-4
    beta1: float = 0.0
    beta2: float = 0.99
    average: float = 0.999
    average_ramp: bool = True
    standing: int = 0
    discriminator_first: int = 0
    decay_images: int = 0
    decay_from: float = 1.0
    precision: str = "bf16"
    channels_last: bool = True
    accumulate: int = 1
    checkpointing: bool = False
    compile: bool = False
    cuda_graphs: bool = False
    lower_rate: float = 1.0

    def __post_init__(self) -> None:
        check(self.batch_size >= 2, "optim.batch_size", self.batch_size, "2 or more (BatchNorm, wrong pairs)")
        check_fields(self, "optim", ABOVE_0, "lr_generator", "lr_discriminator")
        for name in ("beta1", "beta2", "average"):
            check(0 <= getattr(self, name) < 1, f"optim.{name}", getattr(self, name), "at least 0 and below 1")
        check_fields(self, "optim", FROM_0, "standing", "discriminator_first", "decay_images")
        check(0 < self.decay_from <= 1, "optim.decay_from", self.decay_from, "above 0 and at most 1")
        check(self.precision in ("fp32", "tf32", "bf16"), "optim.precision", self.precision, "fp32, tf32 or bf16")
        fits = self.accumulate >= 1 and self.batch_size % self.accumulate == 0
        parts = f"a divisor of optim.batch_size ({self.batch_size}) that leaves 2 or more a part"
        check(fits and self.batch_size // self.accumulate >= 2, "optim.accumulate", self.accumulate, parts)
        check_fields(self, "optim", SHARE, "lower_rate")
        both = self.checkpointing and self.compile
        check(not both, "optim.compile", self.compile, "false with optim.checkpointing (compiled code plans memory)")


@dataclass(frozen=True)
class TrainConfig:
    """How long, how often. ``images``: images seen; ``minutes``: training time over all resumes, 0 for no limit."""

    images: int = 1_000_000
    minutes: float = 0.0
    save_minutes: float = 10.0
    sample_minutes: float = 2.0
    log_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "train", FROM_1, "images", "log_steps")
        check(self.minutes >= 0, "train.minutes", self.minutes, "0 (no limit) or more")
        check_fields(self, "train", ABOVE_0, "save_minutes", "sample_minutes")
        check(0 <= self.seed < 2**32, "train.seed", self.seed, "between 0 and 4294967295")


@dataclass(frozen=True)
class EvalConfig:
    """Small evaluations of the EMA during training, logged, the best EMA kept as RUN/best.

    ``every``: minutes of training between two, 0 for none. ``count``: images. ``features``: folder of a feature
    network whose kernel distance decides which is best; without one the distance in plain image statistics does.
    """

    every: float = 0.0
    count: int = 300
    features: str = ""

    def __post_init__(self) -> None:
        check(self.every >= 0, "eval.every", self.every, "0 (never) or more minutes")
        check(self.count >= 10, "eval.count", self.count, "10 or more")
