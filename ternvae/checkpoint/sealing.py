"""A SHA-256 in every checkpoint file, so that no bit of it can change unnoticed.

A checkpoint is a zip archive, as torch writes it.  Its seal is the comment of the archive: the last
bytes of the file, which ``unzip -z`` shows and every reader of zip files skips.  It holds the
SHA-256 of all bytes before it.  It guards against accidents, not against forgery: whoever can write
the file can seal it anew.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
from typing import BinaryIO

__all__ = ["SealError", "archive_problem", "is_sealed", "seal"]

_MARK = b"ternvae sha256 "
_LENGTH = len(_MARK) + 64 + 1

#: The end record of a zip archive without comment: signature, seven fields, length of the comment.
_END = struct.Struct("<4s4H2LH")


class SealError(ValueError):
    """The bytes of a file are not those that were sealed."""


def seal(file: BinaryIO) -> None:
    """Put the seal on a zip archive without comment; the file is open for reading and writing."""
    file.seek(-_END.size, 2)
    *fields, comment = _END.unpack(file.read(_END.size))
    if fields[0] != b"PK\x05\x06" or comment != 0:
        raise SealError("not a zip archive without comment")
    # The length of the comment is among the bytes that the digest covers.
    file.seek(-_END.size, 2)
    file.write(_END.pack(*fields, _LENGTH))
    digest = _digest(file, file.seek(0, 2))
    file.write(_MARK + digest.encode() + b"\n")


def is_sealed(file: BinaryIO) -> bool:
    """Whether the file bears a seal, which then is whole.

    Raises:
        SealError: there is a seal, and it is not of these bytes.
    """
    size = file.seek(0, 2)
    if size < _LENGTH:
        return False
    file.seek(-_LENGTH, 2)
    found = file.read(_LENGTH)
    if not found.startswith(_MARK):
        return False
    digest = _digest(file, size - _LENGTH)
    if found != _MARK + digest.encode() + b"\n":
        wanted = found.removeprefix(_MARK)[:16].decode("ascii", "backslashreplace")
        raise SealError(f"its bytes have SHA-256 {digest[:16]}..., sealed were {wanted}...")
    return True


def _digest(file: BinaryIO, size: int) -> str:
    """SHA-256 of the first bytes of a file, which is left after them."""
    file.seek(0)
    digest = hashlib.sha256()
    while size:
        piece = file.read(min(size, 1 << 20))
        if not piece:
            raise SealError("it became shorter while it was read")
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


def archive_problem(file: BinaryIO, *, checksums: bool) -> str | None:
    """What is wrong with a zip archive before anything in it is read, or None.

    Args:
        file: the archive.
        checksums: whether to compare every member with its CRC-32, for files without a seal.
    """
    size = file.seek(0, 2)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                return "it has compressed parts, which torch never writes"
            names = [member.filename.lower() for member in members]  # as torch looks them up
            if len(set(names)) < len(names):
                # Which of the two is read depends on how many others there are.
                return "it has two parts of one name, which torch never writes"
            if sum(member.file_size for member in members) > size:
                return "its parts claim more bytes than the file has"
            broken = archive.testzip() if checksums else None
    except Exception as error:  # foreign bytes make zipfile raise struct.error and others
        return f"not a zip archive: {error}"
    return None if broken is None else f"its part {broken!r} has another CRC-32 than was stored"
