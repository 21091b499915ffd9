"""Serving: a bundle as a scorer in this process, and as an HTTP server."""

from recdistill.serve.scorer import Scorer

__all__ = ["Scorer"]
