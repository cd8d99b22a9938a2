"""Training as a profile says: the one room that sees both a profile and tensors."""

from ternvae.trainer.loop import Trainer
from ternvae.trainer.opening import FailedChecksError
from ternvae.trainer.result import TrainingResult
from ternvae.training.run_directory import RunDirectoryError
from ternvae.training.saving import SaveError

__all__ = ["FailedChecksError", "RunDirectoryError", "SaveError", "Trainer", "TrainingResult"]
