"""Pictures of a trained model, drawn with matplotlib (the extra ``plot``)."""

from ternvae.plots.gallery import (
    PICTURES,
    Picture,
    PicturesError,
    SkippedPictureWarning,
    caption_of,
    pictures,
    require_matplotlib,
    save_picture,
)
from ternvae.plots.subject import PairSample, Subject, subject_of

__all__ = [
    "PICTURES",
    "PairSample",
    "Picture",
    "PicturesError",
    "SkippedPictureWarning",
    "Subject",
    "caption_of",
    "pictures",
    "require_matplotlib",
    "save_picture",
    "subject_of",
]
