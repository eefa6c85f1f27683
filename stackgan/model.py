"""The StackGAN model, and the construction of modules from the names in a configuration."""

import torch
from torch import Tensor, nn

from stackgan.config import Config
from stackgan.config.parsing import check
from stackgan.latent.conditioning import CANet, Standardise
from stackgan.latent.distributions import DiagonalGaussian, Distribution
from stackgan.latent.posterior import PosteriorEncoder
from stackgan.latent.priors import CODE_PRIORS, PRIORS, check_latent
from stackgan.networks.discriminator import Discriminator
from stackgan.networks.frozen_features import FeatureHeads, FrozenFeatures, load_frozen_features
from stackgan.networks.generator import Generator

__all__ = ["StackGAN", "build_discriminators", "build_feature_discriminator", "check_choices", "has_posterior"]

QUANTILES = 101  # of log p(c) over the training captions, stored in the checkpoint


class StackGAN(nn.Module):
    """The full model for sampling: standardisation, CA_NET, priors, generator tree, and posterior q(z | x, c).

    p(image | e): c ~ q(c | e), z ~ p(z | c), images = G(z, c). Without text c ~ p(c). Unconditional models
    (text.encoder=none) have no CA_NET and a code of dimension 0. ``posterior`` is None for latent.z=gaussian.

    Raises:
        ValueError: text.dim is 0 in a conditional configuration; unknown names or incompatible keys.

    >>> from stackgan.config import preset
    >>> model = StackGAN(preset("quickstart", ["text.dim=8", "generator.width=4"])).eval()
    >>> model.condition(torch.zeros(2, 8)).mu.shape
    torch.Size([2, 128])
    """

    code_quantiles: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        check_choices(config)
        self.config = config
        self.code_dim = config.text.code_dim if config.text.conditional else 0
        if config.text.conditional:
            if not config.text.dim:
                raise ValueError("text.dim is 0: set it to the dimension of the text encoder's embeddings")
            self.standardise = Standardise(config.text.dim)
            self.ca_net = CANet(config.text.dim, config.text.code_dim)
            self.code_prior = CODE_PRIORS[config.latent.c].build(config.latent, self.code_dim)
            if self.has_code_flow:
                self.register_buffer("code_quantiles", torch.zeros(QUANTILES))
        self.prior = PRIORS[config.latent.z].build(config.latent, self.code_dim)
        self.posterior: PosteriorEncoder | None = None
        if has_posterior(config):
            size, latent = config.tree.sizes[-1], config.latent
            self.posterior = PosteriorEncoder(size, latent.dim, self.code_dim, latent.width)
        self.generator = Generator(config.generator, config.tree.stages, config.latent.dim, self.code_dim)

    def condition(self, e: Tensor) -> DiagonalGaussian:
        """q(c | e) for embeddings e (B, T), not standardised."""
        return self.ca_net(self.standardise(e))

    def codes(self, count: int) -> Distribution:
        """p(c), the marginal distribution of conditioning codes, with ``count`` rows."""
        like = next(self.generator.parameters())
        return self.code_prior(like.new_empty(count, self.code_dim, dtype=torch.float32))

    @torch.no_grad()
    def measure_codes(self, e: Tensor) -> None:
        """Store the quantiles of log p(c) over training captions with embeddings e (N, T), c = mu(e)."""
        density = self.codes(len(e)).log_prob(self.condition(e).mu)
        self.code_quantiles.copy_(density.quantile(torch.linspace(0, 1, QUANTILES, device=density.device)))

    @property
    def has_code_flow(self) -> bool:
        """Whether p(c) is a flow, with weights that are trained with the model."""
        return self.config.text.conditional and any(True for _ in self.code_prior.parameters())

    def no_code(self, count: int) -> Tensor:
        """The empty code (count, 0) for an unconditional generator."""
        return torch.zeros(count, 0, device=next(self.generator.parameters()).device)


def has_posterior(config: Config) -> bool:
    """Whether a posterior q(z | x, c) is trained with the generator; latent.z must be a known name."""
    return PRIORS[config.latent.z].posterior


def check_choices(config: Config) -> None:
    """Raise ``ValueError`` for unknown module names, and for keys that the named modules do not support."""
    check_latent(config.latent)
    if has_posterior(config):
        plain = " or ".join(name for name, kind in PRIORS.items() if not kind.posterior)
        z, hint = config.latent.z, f"a prior without a posterior ({plain})"
        check(config.patch_side is None, "latent.z", z, f"{hint} with discriminator.patch")
        check(not config.optim.cuda_graphs, "latent.z", z, f"{hint} with optim.cuda_graphs")
    fixed = [name for name, kind in CODE_PRIORS.items() if not kind.learned]
    fits = config.latent.c in fixed or not config.optim.cuda_graphs
    check(fits, "latent.c", config.latent.c, f"{' or '.join(fixed)} with optim.cuda_graphs")


def build_discriminators(config: Config) -> nn.ModuleList:
    """One discriminator per stage, coarsest first, for crops if the images are larger than discriminator.patch."""
    condition = _condition_dim(config)
    patch = config.discriminator.patch or config.tree.sizes[-1]
    sides = (min(size, patch) for size in config.tree.sizes)
    return nn.ModuleList(Discriminator(config.discriminator, side, condition) for side in sides)


def build_feature_discriminator(config: Config) -> tuple[FrozenFeatures, FeatureHeads] | None:
    """The network of discriminator.features and the heads on its maps; None without.

    Raises:
        ValueError: the network is unknown, or its weights are not on this machine.
    """
    if not config.discriminator.features:
        return None
    frozen = load_frozen_features(config.discriminator.features)
    return frozen, FeatureHeads(frozen.channels[: config.discriminator.features_maps], _condition_dim(config))


def _condition_dim(config: Config) -> int:
    """Dimension of the discriminators' condition; 0 for unconditional training."""
    if not config.text.conditional:
        return 0
    return config.text.code_dim if config.discriminator.condition == "code" else config.text.dim
