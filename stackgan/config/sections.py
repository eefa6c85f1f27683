"""Sections of the configuration: frozen dataclasses that document each key and check its value."""

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

BASE_SIZE = 64  # side of the first stage in pixels, doubled by every further stage
MAX_SEED = 2**63 - 1  # the largest that torch.Generator accepts
POOLINGS = ("auto", "mean", "cls", "eos", "pooler", "last")  # of token states: text/pretrained.py
AUGMENTATIONS = ("brightness", "saturation", "contrast", "translation", "cutout")


@dataclass(frozen=True)
class TreeConfig:
    """Generator tree.

    Attributes:
        stages: number of resolutions, 64 px and doubled at each further stage.
    """

    stages: int = 1

    def __post_init__(self) -> None:
        check(1 <= self.stages <= 5, "tree.stages", self.stages, "1 to 5 (64 to 1024 px)")

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(BASE_SIZE << stage for stage in range(self.stages))


@dataclass(frozen=True)
class TextConfig:
    """Text: the source of caption embeddings, and their conditioning codes.

    Attributes:
        encoder: ``compact`` (trained with the run and shipped in the checkpoint), a transformers hub name or folder,
            ``precomputed:NAME`` (embeddings stored in the prepared folder), or ``none`` (unconditional).
        pooling: of token states, for transformers encoders (:mod:`stackgan.text.pretrained`).
        dim: T, taken from the encoder if 0.
        code_dim: C, dimension of the conditioning code.
        standardise: scale embeddings to zero mean in each dimension and unit variance overall, with statistics of the
            training captions.
        reword: share of training captions that are replaced by augmented ones
            (:mod:`stackgan.captions.augmentation`).
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
            f"0 with text.encoder={self.encoder}, which encodes no text",
        )

    @property
    def conditional(self) -> bool:
        return self.encoder != "none"


@dataclass(frozen=True)
class CompactConfig:
    """The compact caption encoder: its size, and its contrastive training on image–caption pairs.

    Attributes:
        width, layers, heads: of the transformer.
        dim: of the caption embedding.
        vocabulary: number of word pieces.
        max_tokens: word pieces of a caption, at most; the rest is cut.
        steps, batch_size, learning_rate: of the contrastive training.
        image_size: side in pixels of the images in it.
        teacher: a transformers sentence encoder (hub name or folder) to distil general English from; use 12,000 to
            20,000 of its pieces for ``vocabulary``. Or ``precomputed:NAME``, embeddings stored in the prepared folder
            (char-CNN-RNN), which the encoder then predicts; their dimension replaces ``dim``. None if empty.
        distil: weight of the distillation loss, relative to the contrastive loss.
        paraphrase: weight of the contrastive loss between captions and the same captions with synonyms.
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
    """Latent modules: z, the image's style, and the marginal distribution of the code c.

    Attributes:
        z: ``gaussian`` (N(0, I), as published), ``vae`` (a posterior q(z | x, c) is trained with G as its decoder),
            ``flow`` (the same with a normalizing flow as prior), or ``tilted`` (a flow that ``stackgan tilt-prior``
            fits to a finished checkpoint).
        dim: Z.
        prior: for ``vae``, ``standard`` or ``learned`` N(m(c), s(c)).
        context: condition of a flow prior: ``none`` for p(z), ``caption`` for p(z | c), which fits training-like
            captions better and new combinations of words worse.
        c: ``gaussian``, or ``flow`` for a density p(c), used to sample without text and to score captions.
        family, steps, hidden: of the flows.
        width: of q(z | x, c).
        beta: weight of KL(q ‖ p), a mean over batch and dimensions.
        warm_up: fraction of the run over which ``beta`` increases from 0.
        free_bits: nats per dimension below which the KL is not penalised.
        reconstruction: weight of the mean absolute error of reconstructed images.
        features: weight of the same error in the discriminators' features.
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
    """The generator.

    Attributes:
        block: ``legacy`` (published: BatchNorm + GLU) or ``fused`` (residual, text in every block).
        width: channels at 64 px; deeper layers have multiples of it, and every later stage half of the one before.
        narrowest: minimum number of channels of a stage.
        residuals: residual blocks per later stage, before its upsampling.
        refine: further residual blocks after it, at the side of its image (fused blocks only).
        image_skip: a later stage's image is the bicubically upsampled image of the stage before plus the output of
            its head (fused blocks only; the output skips of StyleGAN2, arXiv:1912.04958, figure 7).
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
    """The discriminators.

    Attributes:
        block: ``legacy`` (published: BatchNorm) or ``residual`` (no normalisation).
        width: channels of the first layer.
        condition: input of the conditional head: the ``code`` (mu of CA_NET, as published) or the ``embedding``.
        unconditional: whether there is an unconditional head beside the conditional one.
        match: weight of a contrastive loss between images and the batch's captions, on real images in D's step and on
            generated ones in G's.
        minibatch_std: add the standard deviation over groups of four images to the residual trunk's last features.
        patch: side in pixels of random crops that the discriminators of larger stages get, a power of two from 64, or
            0 for whole images (as in PatchGAN, arXiv:1611.07004, section 3.2, with one logit per crop); the finest
            stage of G is then computed for the crop only.
        features: name or folder of a frozen image classifier (``efficientnet-lite0``, see
            stackgan/networks/frozen_features.py) for a further discriminator of the finest stage on its feature maps
            (Projected GAN, arXiv:2111.01007); empty for none.
        features_weight: weight of that discriminator in G's loss.
        features_maps: number of its maps, from the one at a quarter of the side to that at a 32nd.
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
    """The losses.

    Attributes:
        adversarial: ``bce`` (published targets), ``hinge``, or ``relativistic`` (real and fake in pairs).
        mismatch: the wrong pair has a wrong ``photo`` (as published, with a separate forward pass) or a wrong
            ``caption`` (as in DF-GAN, shares the pass).
        mismatch_hard: share of wrong pairs with the same words: the caption with two words swapped, or another
            image's caption.
        penalty: weight of the zero-centred gradient penalty on (real photo, true caption); 0 for none.
        penalty_every: steps between two penalties.
        penalty_power: p in E[(|grad_x| + |grad_e|)^p] (DF-GAN: weight 2, power 6); 2 gives R1's form.
        penalty_fakes: the same penalty on generated images too (R2, as in R3GAN).
        kl: weight of CA_NET's KL, a mean over batch and dimensions (at 1, codes keep two thirds of a caption's
            colours; at 0.05, nearly all).
        contrast: weight of the contrastive loss between generated images and captions, by the compact encoder's
            image tower (``text.encoder=compact``).
        diversity: weight of the mode-seeking loss between two images of one caption.
        diversity_share: difference of the two, relative to that of real images, from which this loss is 0.
        colour: weight of the colour consistency between stages.
        coarse: weight of the adversarial loss of the first stage's discriminator on the finest images, averaged down
            to 64 px, on a quarter of the batch; for frozen lower stages (optim.lower_rate=0).
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
    """DiffAugment (arXiv:2006.10738) on all inputs of the discriminators.

    Attributes:
        policy: augmentations separated by commas; empty for none.
        probability: of applying each augmentation to an image.
    """

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
    """Optimisation: Adam with separate learning rates of G and D, and an EMA of G.

    Attributes:
        batch_size: images of a step, 2 or more.
        lr_generator, lr_discriminator: learning rates of Adam.
        beta1, beta2: of Adam.
        average: decay of the EMA.
        average_ramp: limit the decay at step t to (1 + t) / (10 + t).
        standing: images for BatchNorm recalibration of the EMA generator, whenever it is saved, sampled or evaluated;
            0 copies the live generator's statistics, as published.
        discriminator_first: number of images during which only the discriminators are trained. For a start from a
            checkpoint without discriminators (``--start-from``), as untrained ones would degrade its G.
        decay_images: images after which learning rates fall as 1 / √images; 0 for constant rates.
        decay_from: fraction of the run after which they also fall linearly to 5 %.
        precision: of convolutions and matrix products: ``fp32``, ``tf32`` (the same on a CPU) or ``bf16`` (fp32 on
            a CPU without bfloat16 instructions).
        channels_last: memory format of images and feature maps.
        accumulate: number of parts of a batch that the discriminators process in sequence, with accumulated
            gradients: the same step in less memory. With BatchNorm (discriminator.block=legacy) each part is
            normalised by its own statistics, as a batch of that size would be; the negatives of discriminator.match
            and the neighbours of discriminator.minibatch_std are those of the part. G generates the batch at once.
        checkpointing: recompute feature maps within blocks in the backward pass: the same step in less memory and
            more time.
        compile: use torch.compile for G and the discriminators' trunks (not for gradient penalties).
        cuda_graphs: capture steps as CUDA graphs and replay them, which removes the time of launching kernels from
            Python; for latent.z=gaussian and latent.c=gaussian on a GPU.
        lower_rate: factor on the learning rates of everything below the tree's finest stage: CA_NET, the latent
            modules, the lower stages and their discriminators. 0 freezes them (no gradients, fixed BatchNorm
            statistics), for a tree that is grown stage by stage with ``--start-from``.
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
        parts = f"a divisor of optim.batch_size ({self.batch_size}) that leaves 2 or more images per part"
        check(fits and self.batch_size // self.accumulate >= 2, "optim.accumulate", self.accumulate, parts)
        check_fields(self, "optim", SHARE, "lower_rate")
        both = self.checkpointing and self.compile
        check(not both, "optim.compile", self.compile, "false with optim.checkpointing (compiled code plans memory)")


@dataclass(frozen=True)
class TrainConfig:
    """Duration and intervals of a run.

    Attributes:
        images: number of training images.
        minutes: limit of the training time over all resumes; 0 for no limit.
        save_minutes, sample_minutes: minutes between two saved states, and between two sample sheets.
        log_steps: steps between two log lines.
        seed: of all random numbers.
        rollback: how often a run that diverges (a loss or weight is not finite, or a loss has exploded) goes back to
            its last saved state, each time with half the learning rates; after that, and with 0, it ends.
        on_full_disk: when the disk is full, ``continue`` (the last saved state is kept, and the next one is tried at
            the next interval) or ``stop``. A run that cannot save at its end stops with an error in either case.
    """

    images: int = 1_000_000
    minutes: float = 0.0
    save_minutes: float = 10.0
    sample_minutes: float = 2.0
    log_steps: int = 50
    seed: int = 0
    rollback: int = 0
    on_full_disk: str = "continue"

    def __post_init__(self) -> None:
        check_fields(self, "train", FROM_1, "images", "log_steps")
        check_fields(self, "train", FROM_0, "rollback")
        allowed = ("continue", "stop")
        check(self.on_full_disk in allowed, "train.on_full_disk", self.on_full_disk, " or ".join(allowed))
        check(self.minutes >= 0, "train.minutes", self.minutes, "0 (no limit) or more")
        check_fields(self, "train", ABOVE_0, "save_minutes", "sample_minutes")
        check(0 <= self.seed < 2**32, "train.seed", self.seed, "between 0 and 4294967295")


@dataclass(frozen=True)
class EvalConfig:
    """Short evaluations of the EMA generator during training; the best one is kept as RUN/best.

    Attributes:
        every: minutes of training between two evaluations; 0 for one at the end alone, for the model card.
        count: number of images.
        features: name or folder of a feature network, as for ``stackgan evaluate --features``; its kernel distance
            selects the best EMA. Without one, a distance in plain image statistics does.
    """

    every: float = 0.0
    count: int = 300
    features: str = ""

    def __post_init__(self) -> None:
        check(self.every >= 0, "eval.every", self.every, "0 (at the end alone) or more minutes")
        check(self.count >= 10, "eval.count", self.count, "10 or more")
