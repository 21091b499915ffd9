"""recdistill: from interaction logs to a promoted, distilled student ranker."""

__version__ = "0.1.0"
