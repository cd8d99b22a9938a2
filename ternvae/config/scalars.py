"""Plain YAML scalars by the core schema of YAML 1.2, for reading and for writing.

PyYAML follows YAML 1.1, where `1e-3` is text, `no` is false and `010` is eight.
"""

import re

import yaml

Scalar = str | int | float | bool | None

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# int() raises beyond 4300 digits. No key comes near this many, so a longer number stays text.
_MAX_DIGITS = 1000


def scalar(text: str) -> Scalar:
    """The value of an unquoted scalar (YAML 1.2.2, section 10.3.2).

    Args:
        text: The scalar as written.

    Returns:
        None, a bool, an int, a float (infinities and NaN included), or the text itself.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) <= _MAX_DIGITS and _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if len(text) <= _MAX_DIGITS and _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class ProfileDumper(yaml.SafeDumper):
    """Quotes whatever `scalar` would not give back as text, on top of PyYAML's own rules."""

    def ignore_aliases(self, data: object) -> bool:
        """Never writes anchors."""
        return True


def _represent_text(dumper: ProfileDumper, text: str) -> yaml.ScalarNode:
    quoted = not isinstance(scalar(text), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'" if quoted else None)


ProfileDumper.add_representer(str, _represent_text)
