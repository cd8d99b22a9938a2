"""What a checkpoint is worth: measured anew, held against what the file says, and shown."""

from ternvae.analysis.measuring import Analysis, Difference, LevelRow, analysis_json, analyze
from ternvae.analysis.text import analysis_text, comparison_text

__all__ = [
    "Analysis",
    "Difference",
    "LevelRow",
    "analysis_json",
    "analysis_text",
    "analyze",
    "comparison_text",
]
