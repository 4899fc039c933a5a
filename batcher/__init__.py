"""Batcher: a submission manager for OpenAI's Batch API."""

__version__ = "0.1.0"
