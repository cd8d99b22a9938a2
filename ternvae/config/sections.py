"""The sections of a profile and their keys, one line each: type, bounds, default, description.

Loading, the command line, the JSON schema and the tests follow from these lines.  What is
impossible only in combination is refused in `ternvae.config.conflicts`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _plain_text(text: str) -> str:
    if bad := next((c for c in text if not (c.isprintable() or c == "\n")), None):
        raise ValueError(f"must not contain the character U+{ord(bad):04X}")
    return text


def _one_line(text: str) -> str:
    if "\n" in text:
        raise ValueError("must not contain the character U+000A")
    return _plain_text(text)


#: Characters of a path; Linux takes no longer ones.
LONGEST_PATH = 4096

PlainText = Annotated[str, AfterValidator(_plain_text)]
PathText = Annotated[str, AfterValidator(_one_line), Field(min_length=1, max_length=LONGEST_PATH)]


class Section(BaseModel):
    """What all sections have in common: strict types, no unknown keys, no changes."""

    # strict: "1" is no number and true is no 1; forbid: a misspelt key must never pass for set.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Space(Section):
    """The set that is learned."""

    n_digits: int = Field(9, ge=1, le=20, description="Ternary digits n; the space has 3^n points")
    holdout: float = Field(
        0.0, ge=0, lt=1, description="Share of the sequences that training never sees"
    )


class Model(Section):
    """Architecture and geometry."""

    latent_dim: int = Field(16, ge=2, le=4096, description="Dimension of the Poincare ball")
    hidden_dim: int = Field(64, ge=1, le=65536, description="Width of the hidden layers")
    projection_layers: int = Field(2, ge=1, le=64, description="Layers of each projection")
    chart_layers: int = Field(
        2, ge=1, le=64, description="Layers between a point of branch B and the decoder"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout probability while training")
    curvature: float = Field(1.0, gt=0, description="c of the ball with sectional curvature -c")
    learnable_curvature: bool = Field(
        False, description="Whether c is learned, starting from curvature, until A is frozen"
    )
    max_radius: float = Field(
        0.95, gt=0, lt=1, description="Largest sqrt(c) * norm of a point: share of the ball in use"
    )
    mathematical_precision: bool = Field(
        False, description="Points, radii and densities in float64, whatever the weights are in"
    )
    enhanced_controller: bool = Field(
        False, description="A learned controller of twelve statistics modulates the loss weights"
    )


class Training(Section):
    """Optimisation."""

    epochs: int = Field(120, ge=1, le=10**6, description="Passes over the space")
    batch_size: int = Field(
        512, ge=1, le=3**20, description="Sequences per forward pass; at most 3^n_digits"
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=10**4, description="Batches whose gradients are averaged for one step"
    )
    lr: float = Field(3e-3, gt=0, description="Peak learning rate")
    encoder_a_lr_scale: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Share of lr for encoder A and the decoder, after the curriculum's first phase "
        "if there is one; null: 0 after such a phase or with a frozen checkpoint, else 1",
    )
    encoder_b_lr_scale: float = Field(1.0, gt=0, le=100, description="Share of lr for encoder B")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay")
    max_grad_norm: float = Field(5.0, gt=0, description="Gradients are clipped to this norm")
    balanced_share: float = Field(
        0.2, ge=0, lt=1, description="Largest share of a batch drawn level by level"
    )
    paired_share: float = Field(
        0.25,
        ge=0,
        le=0.5,
        description="Share of a batch that are partners of other rows, at every 3-adic distance",
    )
    use_amp: bool = Field(
        False, description="Hidden layers in bfloat16 while training; the geometry never is"
    )
    execution: Literal["eager", "cuda_graph"] = Field(
        "eager", description="Steps called operation by operation, or as one CUDA graph on CUDA"
    )
    num_workers: int = Field(
        0, ge=0, le=1024, description="Changes nothing: sequences are made on the device"
    )


class Scheduler(Section):
    """Learning rate over the run: linear warm-up, then cosine cycles with warm restarts."""

    type: Literal["mathematical_cosine", "constant"] = Field(
        "mathematical_cosine", description="What follows the warm-up: cosine cycles, or lr as it is"
    )
    T_0: float = Field(25.0, ge=0.01, description="Length of the first cycle in epochs")
    T_mult: float = Field(1.5, ge=1, le=100, description="Factor from one cycle length to the next")
    eta_min: float = Field(1e-6, ge=0, description="Learning rate at the end of a cycle")
    warmup_epochs: float = Field(1.0, ge=0, description="Length of the linear rise to lr")


class LossWeights(Section):
    """Factors of the loss terms."""

    coverage: float = Field(1.0, gt=0, description="Reconstruction of the digits")
    hierarchy: float = Field(5.0, ge=0, description="Order of the radii by valuation")
    richness: float = Field(2.5, ge=0, description="Spread of the radii within a level")
    separation: float = Field(3.0, ge=0, description="Gaps between neighbouring levels")
    ultrametric: float = Field(1.0, ge=0, description="Order of the distances between sequences")
    kl: float = Field(1e-3, ge=0, description="Divergence of the posterior from the prior (beta)")


class Targets(Section):
    """What counts as success; a hierarchy is compared after rounding to four decimals."""

    coverage: float = Field(1.0, ge=0, le=1, description="Least share of sequences recovered")
    hierarchy_B: float = Field(
        -0.8321, ge=-1, le=0, description="Largest Spearman(v, r) that counts as ordered"
    )
    richness: float = Field(0.006, ge=0, description="Least mean within-level variance of r")
    Q_enhanced: float = Field(2.0, ge=0, description="Least dist_corr + 1.5 |hierarchy_B|")
    coverage_B: float = Field(
        0.0, ge=0, le=1, description="Least share recovered from the points of branch B; 0: any"
    )
    ultrametric_corr: float = Field(
        0.0, ge=0, le=1, description="Least Spearman of the distances and the 3-adic ones; 0: any"
    )
    triplet_accuracy: float = Field(
        0.0, ge=0, le=1, description="Least share of triples in the 3-adic order; 0: any"
    )


class Curriculum(Section):
    """Coverage first, then the hierarchy, richness last; see docs/training.md."""

    enabled: bool = Field(False, description="Whether the loss weights follow the phases below")
    coverage_first_epochs: int = Field(
        30, ge=0, le=10**6, description="Epochs with reconstruction alone, at the start"
    )
    hierarchy_ramp_epochs: int = Field(
        50,
        ge=0,
        le=10**6,
        description="Epochs in which the geometric terms rise to their weights, then",
    )
    richness_preserve_epochs: int = Field(
        20, ge=0, le=10**6, description="Epochs with twice the weight of richness, at the end"
    )


class Homeostasis(Section):
    """When encoder A and encoder B are frozen and thawed."""

    enabled: bool = Field(True, description="Whether encoders are frozen and thawed by the metrics")
    mathematical_precision: bool = Field(
        True, description="Compare figures as measured; false: rounded to four decimals"
    )
    coverage_precision_threshold: float = Field(
        0.9995, ge=0, le=1, description="Coverage at which encoder A and the decoder are frozen"
    )
    coverage_hysteresis: float = Field(
        0.05, ge=0, le=1, description="How far coverage_B may fall below that before they thaw"
    )
    hierarchy_precision_threshold: float = Field(
        0.0005, ge=0, le=1, description="Gain in hierarchy_B below which encoder B is at a plateau"
    )
    hierarchy_hysteresis: float = Field(
        0.005, ge=0, le=1, description="Loss in hierarchy_B at which encoder B thaws"
    )
    Q_target: float = Field(2.0, ge=0, description="Least Q_enhanced with which encoder B may rest")
    patience: int = Field(
        2, ge=1, le=10**6, description="Evaluations in a row that a plateau or a loss must last"
    )
    enable_annealing: bool = Field(
        True, description="Whether the thresholds of coverage and Q rise when Q has improved"
    )
    annealing_step: float = Field(
        0.003, ge=0, le=1, description="How far they rise, up to the target and the ceiling"
    )
    annealing_patience: int = Field(
        5, ge=1, le=10**6, description="Evaluations in a cycle, after which Q is compared"
    )


class FrozenCheckpoint(Section):
    """Coverage taken over from an earlier run."""

    path: PathText | None = Field(
        None,
        description="Checkpoint whose encoder A and decoder are taken over; null: they are learned",
    )


class Checkpointing(Section):
    """How often the run is saved, and what is kept."""

    save_every_n_epochs: int = Field(
        20, ge=1, le=10**6, description="Epochs between numbered checkpoints"
    )
    keep_best_n: int = Field(3, ge=1, le=1000, description="How many of the best models are kept")
    on_save_error: Literal["stop", "continue"] = Field(
        "stop",
        description="What a run does that cannot be saved: stop, or go on and try again later",
    )


class Monitoring(Section):
    """What is measured and said along the way."""

    log_every_n_steps: int = Field(
        0, ge=0, le=10**9, description="Steps between two log lines with the loss terms; 0: none"
    )
    detailed_metrics_every_n_epochs: int = Field(
        5, ge=1, le=10**6, description="Epochs between two evaluations of all metrics"
    )
    precision_tracking: bool = Field(
        False, description="Measure the model against itself in float64 at every evaluation"
    )
    tensorboard: bool = Field(False, description="Write event files for TensorBoard (an extra)")
    report: bool = Field(
        True, description="Write report.html at the end; its pictures are an extra"
    )


class Validation(Section):
    """Checks before training, and the bounds whose crossing is warned of."""

    before_training: bool = Field(
        False, description="Run the checks of `ternvae validate` first; train only if they pass"
    )
    coverage_floor: float = Field(
        0.95, ge=0, le=1, description="Warn when coverage falls below this after having reached it"
    )
    richness_floor: float = Field(0.001, ge=0, description="Warn when richness is below this")
    loss_ceiling: float = Field(
        10.0, gt=0, description="Warn when the loss jumps above this, or rises above it"
    )
