"""The part of the table of ``key_effects.py`` on what a run decides: phases, freezing, thawing."""

from __future__ import annotations

from typing import Any

from tests.observing import Effect, Observation

PHASES: dict[str, Any] = {
    "curriculum.enabled": True,
    "curriculum.coverage_first_epochs": 1,
    "curriculum.hierarchy_ramp_epochs": 1,
    "curriculum.richness_preserve_epochs": 1,
    "training.epochs": 5,
}

#: Homeostasis that freezes nothing of itself.
RESTLESS: dict[str, Any] = {
    "training.epochs": 4,
    "homeostasis.enabled": True,
    "homeostasis.coverage_precision_threshold": 1.0,
    "homeostasis.patience": 1,
    "homeostasis.Q_target": 0.5,
    "homeostasis.enable_annealing": False,
    "targets.hierarchy_B": -0.4,
}

#: Figures with which encoder B comes to rest after the second evaluation, and nothing else happens.
AT_REST = {
    "coverage": [0.5],
    "coverage_B": [0.5],
    "hierarchy_B": [-0.5],
    "Q_enhanced": [1.5],
    "richness": [0.01],
}
RISING_Q = AT_REST | {"hierarchy_B": [-0.3], "Q_enhanced": [1.0, 1.1, 1.2, 1.3]}
ANNEALED = RESTLESS | {
    "homeostasis.enable_annealing": True,
    "homeostasis.annealing_patience": 1,
    "homeostasis.coverage_precision_threshold": 0.9,
}

#: Terms of the loss before any learning, which no weight may change.
TERMS = tuple(
    f"first_step.{term}"
    for term in ("coverage", "hierarchy", "richness", "separation", "ultrametric", "kl")
)


def becomes(**changes: tuple[Any, Any]) -> Any:
    """Observations have these values before and after; ``__`` in a name stands for a dot."""

    def shown(before: Observation, after: Observation) -> bool:
        dotted = {name.replace("__", "."): values for name, values in changes.items()}
        return all((before.get(n), after.get(n)) == values for n, values in dotted.items())

    return shown


CURRICULUM: dict[str, Effect] = {
    "curriculum.enabled": Effect(
        False,
        ("events", "first_step.total", "weights"),
        base=PHASES,
        unchanged=TERMS,
        shown=lambda before, after: (
            before["events"]
            == [
                (1, "curriculum_coverage_first"),
                (2, "curriculum_hierarchy_ramp"),
                (3, "curriculum_all_terms"),
                (5, "curriculum_richness_preserve"),
            ]
            and after["events"] == []
        ),
    ),
    "curriculum.coverage_first_epochs": Effect(
        2,
        ("events", "weights"),
        base=PHASES,
        shown=lambda _, after: (3, "curriculum_hierarchy_ramp") in after["events"],
    ),
    "curriculum.hierarchy_ramp_epochs": Effect(
        2,
        ("events", "weights"),
        base=PHASES,
        shown=lambda _, after: (4, "curriculum_all_terms") in after["events"],
    ),
    "curriculum.richness_preserve_epochs": Effect(
        2,
        ("events", "weights"),
        base=PHASES,
        shown=lambda _, after: (4, "curriculum_richness_preserve") in after["events"],
    ),
}

HOMEOSTASIS: dict[str, Effect] = {
    "homeostasis.enabled": Effect(
        False,
        ("events", "weights.encoder_b_hidden"),
        base=RESTLESS,
        figures=AT_REST,
        shown=becomes(events=([(2, "freeze_encoder_b")], [])),
    ),
    # 1.49996 is 1.5 to four decimals.
    "homeostasis.mathematical_precision": Effect(
        False,
        ("events", "weights.encoder_b_hidden"),
        base=RESTLESS | {"homeostasis.Q_target": 1.5},
        figures=AT_REST | {"Q_enhanced": [1.49996]},
        shown=becomes(events=([], [(2, "freeze_encoder_b")])),
    ),
    "homeostasis.coverage_precision_threshold": Effect(
        0.4,
        ("events", "weights.encoder_a", "weights.decoder"),
        base=RESTLESS,
        figures=AT_REST | {"hierarchy_B": [-0.3]},
        shown=becomes(events=([], [(1, "freeze_encoder_a")])),
    ),
    "homeostasis.coverage_hysteresis": Effect(
        0.2,
        ("events", "weights.encoder_a"),
        base=RESTLESS | {"homeostasis.coverage_precision_threshold": 0.4, "training.epochs": 3},
        figures=AT_REST | {"hierarchy_B": [-0.3], "coverage_B": [0.5, 0.3, 0.5]},
        shown=lambda before, after: (
            before["events"][:2] == [(1, "freeze_encoder_a"), (2, "thaw_encoder_a")]
            and after["events"] == [(1, "freeze_encoder_a")]
        ),
    ),
    "homeostasis.hierarchy_precision_threshold": Effect(
        0.01,
        ("events", "weights.encoder_b_hidden"),
        base=RESTLESS,
        figures=AT_REST | {"hierarchy_B": [-0.5, -0.501, -0.502, -0.503]},
        shown=becomes(events=([], [(2, "freeze_encoder_b")])),
    ),
    "homeostasis.hierarchy_hysteresis": Effect(
        0.05,
        ("events", "weights.encoder_b_hidden"),
        base=RESTLESS,
        figures=AT_REST | {"hierarchy_B": [-0.5, -0.5, -0.49]},
        shown=becomes(
            events=([(2, "freeze_encoder_b"), (3, "thaw_encoder_b")], [(2, "freeze_encoder_b")])
        ),
    ),
    "homeostasis.Q_target": Effect(
        1.6,
        ("events", "weights.encoder_b_hidden"),
        base=RESTLESS,
        figures=AT_REST,
        shown=becomes(events=([(2, "freeze_encoder_b")], [])),
    ),
    "homeostasis.patience": Effect(
        2,
        ("events", "weights.encoder_b_hidden"),
        base=RESTLESS,
        figures=AT_REST,
        shown=becomes(events=([(2, "freeze_encoder_b")], [(3, "freeze_encoder_b")])),
    ),
    "homeostasis.enable_annealing": Effect(
        False,
        ("events",),
        base=ANNEALED,
        figures=RISING_Q,
        shown=lambda before, after: (
            {kind for _, kind in before["events"]} == {"anneal_thresholds"}
            and after["events"] == []
        ),
    ),
    "homeostasis.annealing_step": Effect(
        0.02,
        ("event_texts",),
        base=ANNEALED,
        figures=RISING_Q,
        unchanged=("events",),
        shown=lambda before, after: (
            "from 0.9 to 0.903" in before["event_texts"][0]
            and "from 0.9 to 0.92" in after["event_texts"][0]
        ),
    ),
    "homeostasis.annealing_patience": Effect(
        2,
        ("events",),
        base=ANNEALED,
        figures=RISING_Q,
        shown=lambda _, after: after["events"] == [(e, "anneal_thresholds") for e in (2, 4)],
    ),
}

DECISIONS: dict[str, Effect] = {**CURRICULUM, **HOMEOSTASIS}
