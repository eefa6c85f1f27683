"""The parts of a checkpoint before the generator as ONNX graphs: text encoder, CA_NET, priors.

The compact encoder, CA_NET and Gaussian priors are written node by node. Transformers models and normalizing flows
are traced by PyTorch's exporter, which takes longer.
"""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from stackgan.latent.flows.bijections import Bijection, InvertibleLinear
from stackgan.latent.priors import GaussianPrior, LearnedGaussianPrior
from stackgan.model import StackGAN
from stackgan.networks.onnx_graph import IR_VERSION, OPSET, OnnxGraph, OnnxModel, onnx_package
from stackgan.text.base import TextEncoder
from stackgan.text.compact import CompactEncoder
from stackgan.text.pretrained import TransformersEncoder

__all__ = ["latent_graph", "text_free_graph", "text_graph"]


# --- text ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def text_graph(encoder: TextEncoder, metadata: Mapping[str, str] | None = None) -> OnnxModel:
    """Token ids and mask, both (batch, tokens) int64 -> ``embedding`` (batch, T).

    Raises:
        ValueError: another kind of encoder than the compact and transformers ones, or a package is missing.
    """
    if isinstance(encoder, CompactEncoder):
        return _compact_graph(encoder, metadata)
    if isinstance(encoder, TransformersEncoder):
        ids = torch.full((2, 6), encoder.tokenizer.pad_token_id or 0)
        batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", min=2, max=encoder.max_tokens)
        rows = {0: batch, 1: tokens}
        inputs = {"ids": ids, "mask": torch.ones_like(ids)}
        return _traced(_PooledStates(encoder), inputs, [rows, rows], ["embedding"], metadata, strict=False)
    raise ValueError(
        f"a text encoder of type {type(encoder).__name__} cannot be exported: compact and transformers can"
    )


class _PooledStates(nn.Module):
    def __init__(self, encoder: TransformersEncoder) -> None:
        super().__init__()
        self.model, self.dense, self.encoder = encoder.model, encoder.dense, encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.encoder.embed(ids, mask.bool())


def _compact_graph(encoder: CompactEncoder, metadata: Mapping[str, str] | None) -> OnnxModel:
    """:class:`~stackgan.text.compact.CaptionTransformer`, mean pooling and projection."""
    graph, network = OnnxGraph(), encoder.network
    embeddings, longest = network.embeddings, encoder.max_tokens
    ids = graph.input("ids", ["batch", "tokens"], integers=True)
    mask = graph.input("mask", ["batch", "tokens"], integers=True)
    length = graph("Shape", ids, start=1, end=2)
    words = graph("Gather", embeddings["word_embeddings"].weight, ids)
    places = graph("Slice", network.positions(longest), [0], length, [0])
    states = _norm(graph, graph("Add", words, places), embeddings["LayerNorm"])
    ends = graph("Concat", length, length, axis=0)
    bias = graph("Slice", network.distance_bias(longest), [0, 0], ends, [2, 3])  # (1, heads, L, L)
    seen = graph("Cast", graph("Unsqueeze", mask, [1, 2]), to=graph.onnx.TensorProto.BOOL)  # (B, 1, 1, L)
    bias = graph("Where", seen, bias, torch.tensor(torch.finfo(torch.float32).min))
    for block in network.encoder["layer"]:
        states = _layer(graph, block, states, bias, network.heads)
    weights = graph("Cast", graph("Unsqueeze", mask, [2]), to=graph.onnx.TensorProto.FLOAT)  # (B, L, 1)
    total = graph("ReduceSum", graph("Mul", states, weights), [1], keepdims=0)
    mean = graph("Div", total, graph("ReduceSum", weights, [1], keepdims=0))
    embedding = graph.linear(mean, encoder.projection.weight, encoder.projection.bias)
    graph.output(embedding, "embedding", ["batch", encoder.dim])
    return graph.model("text", metadata)


def _layer(graph: OnnxGraph, block: Any, states: str, bias: str, heads: int) -> str:
    attention, output = block["attention"], block["output"]
    size = attention["attn"]["q"].out_features // heads
    split = {
        name: graph("Reshape", _dense(graph, states, attention["attn"][name]), [0, 0, heads, size]) for name in "qkv"
    }
    query, value = (graph("Transpose", split[name], perm=[0, 2, 1, 3]) for name in "qv")  # (B, heads, L, H / heads)
    key = graph("Transpose", split["k"], perm=[0, 2, 3, 1])
    scores = graph("Mul", graph("MatMul", query, key), torch.tensor(size**-0.5))
    mixed = graph("MatMul", graph("Softmax", graph("Add", scores, bias), axis=-1), value)
    mixed = graph("Reshape", graph("Transpose", mixed, perm=[0, 2, 1, 3]), [0, 0, heads * size])
    states = _norm(graph, graph("Add", states, _dense(graph, mixed, attention["attn"]["o"])), attention["LayerNorm"])
    inner = graph("Relu", _dense(graph, states, block["intermediate"]["dense"]))
    return _norm(graph, graph("Add", states, _dense(graph, inner, output["dense"])), output["LayerNorm"])


def _dense(graph: OnnxGraph, x: str, layer: nn.Linear) -> str:
    return graph("Add", graph("MatMul", x, layer.weight.T), layer.bias)


def _norm(graph: OnnxGraph, x: str, norm: nn.LayerNorm) -> str:
    return graph("LayerNormalization", x, norm.weight, norm.bias, axis=-1, epsilon=norm.eps)


# --- latent ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def latent_graph(model: StackGAN, metadata: Mapping[str, str] | None = None) -> OnnxModel:
    """``embedding`` (batch, T), noise of z (batch, Z) and c (batch, C), and truncation () -> z and c.

    c ~ q(c | e) of CA_NET and z ~ p(z | c), each with its noise scaled by the truncation. An unconditional model has
    ``noise_z`` and ``truncation`` as inputs and z as its output.
    """
    if not model.config.text.conditional:
        return text_free_graph(model, metadata)
    write = _PRIORS.get(type(model.prior))
    if write is None:
        return _traced_latents(_Latent(model), metadata)
    graph = OnnxGraph()
    e = graph.input("embedding", ["batch", model.config.text.dim])
    noise_z, noise_c = _noise(graph, model)
    e = graph("Div", graph("Sub", e, model.standardise.mean), model.standardise.scale)
    linear = model.ca_net.linear
    mu, logvar = graph.several(
        "Split", 2, graph.glu(graph.linear(e, linear.weight, linear.bias)), axis=1, num_outputs=2
    )
    c = _sampled(graph, mu, logvar, noise_c)
    return _latents(graph, model, write(graph, model.prior, c, noise_z), c, metadata)


@torch.no_grad()
def text_free_graph(model: StackGAN, metadata: Mapping[str, str] | None = None) -> OnnxModel:
    """Noise of z (batch, Z) and c (batch, C), and truncation () -> z and c without text: c ~ p(c), z ~ p(z | c)."""
    write_z = _PRIORS.get(type(model.prior))
    write_c = _PRIORS.get(type(model.code_prior)) if model.code_dim else None
    if write_z is None or (model.code_dim and write_c is None):
        return _traced_latents(_TextFree(model), metadata)
    graph = OnnxGraph()
    noise_z, noise_c = _noise(graph, model)
    c = write_c(graph, model.code_prior, "", noise_c) if write_c else ""
    return _latents(graph, model, write_z(graph, model.prior, c, noise_z), c, metadata)


def _noise(graph: OnnxGraph, model: StackGAN) -> tuple[str, str]:
    """The inputs for noise, scaled by that for the truncation."""
    z = graph.input("noise_z", ["batch", model.config.latent.dim])
    c = graph.input("noise_c", ["batch", model.code_dim]) if model.code_dim else ""
    truncation = graph.input("truncation", [])
    return graph("Mul", z, truncation), graph("Mul", c, truncation) if c else ""


def _latents(graph: OnnxGraph, model: StackGAN, z: str, c: str, metadata: Mapping[str, str] | None) -> OnnxModel:
    graph.output(z, "z", ["batch", model.config.latent.dim])
    if c:
        graph.output(c, "c", ["batch", model.code_dim])
    return graph.model("latent", metadata)


def _sampled(graph: OnnxGraph, mu: str, logvar: str, noise: str) -> str:
    std = graph("Exp", graph("Mul", logvar, torch.tensor(0.5)))
    return graph("Add", mu, graph("Mul", std, noise))


def _standard_normal(graph: OnnxGraph, prior: GaussianPrior, c: str, noise: str) -> str:
    return noise


def _learned_gaussian(graph: OnnxGraph, prior: LearnedGaussianPrior, c: str, noise: str) -> str:
    raw = graph.constant(prior.bias[None])
    if prior.linear is not None:
        raw = graph.linear(c, prior.linear.weight, prior.bias)
    mu, logvar = graph.several("Split", 2, raw, axis=1, num_outputs=2)
    clipped = graph("Clip", logvar, torch.tensor(-8.0), torch.tensor(8.0))
    return _sampled(graph, mu, clipped, noise)


_PRIORS: dict[type[nn.Module], Callable[[OnnxGraph, Any, str, str], str]] = {  # others are traced
    GaussianPrior: _standard_normal,
    LearnedGaussianPrior: _learned_gaussian,
}


class _Latent(nn.Module):
    def __init__(self, model: StackGAN) -> None:
        super().__init__()
        self.model = _without_triangular_solves(model)

    def forward(
        self, embedding: Tensor, noise_z: Tensor, noise_c: Tensor, truncation: Tensor
    ) -> tuple[Tensor, Tensor]:
        c = self.model.condition(embedding).sample(noise=truncation * noise_c)
        return self.model.prior(c).sample(noise=truncation * noise_z), c


class _TextFree(nn.Module):
    def __init__(self, model: StackGAN) -> None:
        super().__init__()
        self.model = _without_triangular_solves(model)

    def forward(self, noise_z: Tensor, noise_c: Tensor, truncation: Tensor) -> tuple[Tensor, Tensor]:
        c = self.model.codes(len(noise_z)).sample(noise=truncation * noise_c)
        return self.model.prior(c).sample(noise=truncation * noise_z), c


class _InverseProduct(Bijection):
    """The inverse of :class:`~stackgan.latent.flows.bijections.InvertibleLinear` as a product: ONNX cannot solve."""

    weight: Tensor

    def __init__(self, layer: InvertibleLinear) -> None:
        super().__init__()
        eye = torch.eye(len(layer.signs), dtype=torch.float64)
        self.register_buffer("weight", copy.deepcopy(layer).double().inverse(eye)[0].float())  # rows W⁻¹ eᵢ

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u @ self.weight, u.new_zeros(len(u))


def _without_triangular_solves(model: StackGAN) -> StackGAN:
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, InvertibleLinear):
                setattr(module, name, _InverseProduct(child))
    return model


def _traced_latents(module: nn.Module, metadata: Mapping[str, str] | None) -> OnnxModel:
    model = cast(StackGAN, module.model)
    dims = {"embedding": model.config.text.dim, "noise_z": model.config.latent.dim, "noise_c": model.code_dim}
    names = list(inspect.signature(module.forward).parameters)
    inputs = {name: torch.ones(2, dims[name]) if name in dims else torch.ones(()) for name in names}
    batch = torch.export.Dim("batch")
    shapes: list[dict[int, Any] | None] = [{0: batch} if name in dims else None for name in names]
    return _traced(module, inputs, shapes, ["z", "c"], metadata, strict=True)


def _traced(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    shapes: Sequence[dict[int, Any] | None],
    outputs: Sequence[str],
    metadata: Mapping[str, str] | None,
    *,
    strict: bool,
) -> OnnxModel:
    """The graph that PyTorch's exporter traces.

    Args:
        strict: trace the Python code too, so that ``len()`` of a tensor does not fix the batch. Transformers' models
            do without, and not all can be traced so.

    Raises:
        ValueError: the package onnxscript is missing, or the module has operators that ONNX has not.
    """
    onnx = onnx_package()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = tuple(inputs.values())
            traced = torch.export.export(module.eval(), given, dynamic_shapes=tuple(shapes), strict=strict)
            program = torch.onnx.export(
                traced,
                dynamo=True,
                verbose=False,
                input_names=list(inputs),
                output_names=[f"{name}_out" for name in outputs],
                opset_version=OPSET,
            )
    except ImportError as error:
        raise ValueError(f'an ONNX graph needs the package {error.name}: pip install "stackgan[onnx]"') from None
    except RuntimeError as error:  # of tracing, or an OnnxExporterError
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{type(module).__name__.strip('_')} cannot be exported to ONNX: {reason}") from None
    finally:
        logger.setLevel(level)
    assert program is not None
    model: OnnxModel = program.model_proto
    names: dict[str, str] = {}  # the exporter has renamed the dynamic dimensions
    for entry, dims in zip(model.graph.input, shapes, strict=True):
        sizes = entry.type.tensor_type.shape.dim
        names |= {sizes[place].dim_param: dim.__name__ for place, dim in (dims or {}).items()}
    for entry in (*model.graph.input, *model.graph.output):
        for size in entry.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = names.get(size.dim_param, size.dim_param)
    inner = {name: f"{name}_inner" for name in outputs}  # the exporter names values after operators: embedding
    for node in model.graph.node:
        node.input[:] = [inner.get(value, value) for value in node.input]
        node.output[:] = [inner.get(value, value) for value in node.output]
    del model.graph.value_info[:]  # shapes of inner values, which engines infer
    for output, name in zip(model.graph.output, outputs, strict=True):
        model.graph.node.append(onnx.helper.make_node("Identity", [output.name], [name], name=f"output_{name}"))
        output.name = name
    model.ir_version = IR_VERSION
    onnx.helper.set_model_props(model, dict(metadata or {}))
    return model
