"""Did you mean ...? Nearest valid names for a name that is unknown."""

import re
from collections.abc import Collection
from difflib import get_close_matches

# Beyond this nothing is a slip of the fingers.
_LONGEST_NAME = 100


def nearest(name: str, valid: Collection[str], cutoff: float = 0.6) -> str | None:
    """The valid name most like `name` by difflib's ratio, letter case and hyphens aside.

    Args:
        name: What was written.
        valid: The names to choose from.
        cutoff: Least ratio; of three letters or fewer, half in common are always enough.

    Returns:
        The nearest name, or None when nothing is near.
    """
    name = name[:_LONGEST_NAME]
    folded = {_fold(candidate): candidate for candidate in valid}
    wanted = _fold(name)
    # One wrong letter out of two (lx for lr) leaves a ratio of 0.5.
    cutoff = min(cutoff, 0.5) if len(wanted) <= 3 else cutoff
    close = get_close_matches(wanted, folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


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
        The nearest sibling, if any, then the keys that mean the same, dotted where they belong
        to another section: `lr` is training.lr, `coverage_weight` is loss_weights.coverage,
        `learning_rate` is training.lr.
    """
    name = name[:_LONGEST_NAME]
    if "." in name and (whole := nearest(name, keys)):
        return [whole]
    near = nearest(name, siblings)
    if near is not None and _fold(near) == _fold(name):
        return [near]
    own = {f"{prefix}{sibling}": sibling for sibling in siblings}
    same = [own.get(key, key) for key in keys if _same(name, key)]
    if near is None and not same:
        close = nearest(name, [_leaf(key) for key in keys], cutoff=0.75)
        return [key for key in keys if _leaf(key) == close]
    # A section is no second answer beside one of its own keys.
    if near is None or near in same or any(key.startswith(f"{near}.") for key in same):
        return same
    return [near, *same]


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
