"""Did you mean ...? Nearest valid names for a name that is unknown."""

import re
from collections.abc import Collection
from difflib import SequenceMatcher, get_close_matches

# Beyond this nothing is a slip of the fingers.
_LONGEST_NAME = 100

# Least ratios of names that may stand for one another.
_VAGUELY_ALIKE, _ALIKE = 0.6, 0.75


def nearest(name: str, valid: Collection[str], cutoff: float = _VAGUELY_ALIKE) -> str | None:
    """The valid name most like `name` by difflib's ratio, letter case and hyphens aside.

    Args:
        name: What was written.
        valid: The names to choose from.
        cutoff: Least ratio; of three letters or fewer, half in common are always enough.

    Returns:
        The nearest name, or None when nothing is near.
    """
    return next(iter(_equally_near(name, valid, cutoff)), None)


def _equally_near(name: str, valid: Collection[str], cutoff: float) -> list[str]:
    """All valid names of the highest ratio, in their own order."""
    name = name[:_LONGEST_NAME]
    folded = {_fold(candidate): candidate for candidate in valid}
    wanted = _fold(name)
    # One wrong letter out of two (lx for lr) leaves a ratio of 0.5.
    cutoff = min(cutoff, 0.5) if len(wanted) <= 3 else cutoff
    close = get_close_matches(wanted, folded, cutoff=cutoff)
    ratios = [SequenceMatcher(None, candidate, wanted).ratio() for candidate in close]
    best = {folded[each] for each, ratio in zip(close, ratios, strict=True) if ratio == ratios[0]}
    return [candidate for candidate in valid if candidate in best]


def suggestions(
    name: str, siblings: Collection[str], keys: Collection[str], prefix: str = ""
) -> list[str]:
    """Names that an unknown key may stand for.

    Args:
        name: The unknown key, without its section.
        siblings: The keys that are valid in the section where it was found.
        keys: All dotted keys of a profile.
        prefix: The section and its dot; empty at the top.

    Returns:
        The nearest siblings, if any, then the keys that mean the same, dotted where they belong
        to another section: `lr` is training.lr, `coverage_weight` is loss_weights.coverage,
        `learning_rate` is training.lr.
    """
    name = name[:_LONGEST_NAME]
    if "." in name and (whole := nearest(name, keys)):
        return [whole]
    own = {f"{prefix}{sibling}": sibling for sibling in siblings}
    elsewhere = [own.get(key, key) for key in keys if _fold(_leaf(key)) == _fold(name)]
    # Beside a key of exactly this name, a sibling has to be more than vaguely alike.
    near = _equally_near(name, siblings, _ALIKE if elsewhere else _VAGUELY_ALIKE)
    if [_fold(each) for each in near] == [_fold(name)]:
        return near
    same = [own.get(key, key) for key in keys if _same(name, key)]
    if not near and not same:
        close = _equally_near(name, [_leaf(key) for key in keys], _ALIKE)
        return [key for key in keys if _leaf(key) in close]
    # A section is no second answer beside one of its own keys.
    sections = {key.partition(".")[0] for key in same if "." in key}
    first = [each for each in near if each not in same and each not in sections]
    return [*first, *elsewhere, *(key for key in same if key not in elsewhere)]


def did_you_mean(names: list[str]) -> str:
    """The question that ends an error message; empty without names."""
    return f"did you mean {' or '.join(repr(name) for name in names)}?" if names else ""


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]


def _fold(name: str) -> str:
    return name.casefold().replace("-", "_")


def _words(name: str) -> list[str]:
    return [word.rstrip("s") for word in re.split(r"[._]", _fold(name)) if word]


def _same(name: str, key: str) -> bool:
    leaf = _fold(_leaf(key))
    words, leaf_words = _words(name), _words(leaf)
    if _fold(name) == leaf or _initials(words) == leaf:
        return True
    if len(leaf_words) > 1 and _fold(name) == _initials(leaf_words):
        return True
    # Words of the whole path in any order, the first one of the key among them.
    return len(words) > 1 and leaf_words[0] in words and set(words) <= set(_words(key))


def _initials(words: list[str]) -> str:
    return "".join(word[0] for word in words if word)
