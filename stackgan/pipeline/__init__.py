"""Inference: captions to images."""

from stackgan.pipeline.loaded import PRECISIONS
from stackgan.pipeline.output import CaptionDensity, PipelineOutput
from stackgan.pipeline.pipeline import StackGANPipeline

__all__ = ["PRECISIONS", "CaptionDensity", "PipelineOutput", "StackGANPipeline"]
