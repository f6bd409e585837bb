"""Which encoding the bytes of a text file are in, and when it is surely none that is read here."""

from __future__ import annotations

import re

_HIGH = re.compile(rb"[\x80-\xff]+")
_KANA = re.compile(rb"(?:\x82[\x9f-\xf1]|\x83[\x40-\x96])")
# What Windows-1252 has for these bytes never stands within a word: capitals, daggers, quotes.
_IN_A_WORD = re.compile(
    rb"[a-z](?:[\x81\x83\x87-\x89\x8b\x8d\x8f\x90\x94\x95\x98\x99\x9b\x9d](?=[a-z])"
    rb"|[\x81\x8a\x8d-\x90\x9d\x9f](?![A-Z]))"
)
_UNDEFINED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


def decoded(content: bytes) -> str:
    """Bytes as text, lines ending as on Unix, by the byte order mark if there is one.

    Raises:
        UnicodeDecodeError: if they are not what their mark says.
    """
    if content.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        text = content.decode("utf-32")
    elif content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16")
    elif (order := _utf16_order(content)) is not None:
        text = content.decode(order)
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp932" if _is_shift_jis(content) else "cp1252", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def guess(content: bytes) -> tuple[str, int, str] | None:
    """Which encoding the letters of a text were taken for, where its bytes do not say so.

    Returns:
        The encoding's name, the number of the first line with such a letter, and that line as it
        is read; None where nothing had to be guessed.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or _utf16_order(content):
        return None
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        return None
    name = "Shift-JIS" if _is_shift_jis(content) else "Windows-1252"
    lines = decoded(content).split("\n")
    number = next(n for n, line in enumerate(lines) if not line.isascii())
    return name, number + 1, lines[number].strip()


def why_not_western(content: bytes) -> str:
    """Why bytes that are no UTF-8 cannot be Windows-1252 either; empty where they may be.

    Only what is no accident counts: letters of Western languages with accents stand alone between
    others, so a text of which most such letters come three in a row, or more, is in another script;
    and within words only some of the bytes from 0x80 to 0x9f can stand.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")) or _utf16_order(content):
        return ""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        return ""
    if _is_shift_jis(content):
        return ""
    runs = [len(match[0]) for match in _HIGH.finditer(content)]
    if len(runs) > 2 and sum(length > 2 for length in runs) * 2 > len(runs):
        return "its letters are of another script than Windows-1252 has"
    n_odd = len(_IN_A_WORD.findall(content))
    if n_odd > 2 or (n_odd > 0 and _UNDEFINED.search(content)):
        return "it may come from an old Macintosh (Mac OS Roman)"
    return "it holds bytes that Windows-1252 has not" if _UNDEFINED.search(content) else ""


def _is_shift_jis(content: bytes) -> bool:
    """Whether bytes are Japanese beyond doubt: they can be read so, and hold kana."""
    if len(_KANA.findall(content)) < 3:
        return False
    try:
        text = content.decode("cp932")
    except UnicodeDecodeError:
        return False
    foreign = [letter for letter in text if letter > "\x7f"]
    kana = [letter for letter in foreign if "\u3040" <= letter <= "\u30ff"]
    return len(kana) * 4 > len(foreign)


def _utf16_order(content: bytes) -> str | None:
    """UTF-16 without a mark, told by the zeros in every other byte of its first characters."""
    head = content[:256]
    if len(head) < 4 or len(content) % 2:
        return None
    even, odd = head[::2], head[1::2]
    if odd.count(0) > 0.8 * len(odd) and not even.count(0):
        return "utf-16-le"
    return "utf-16-be" if even.count(0) > 0.8 * len(even) and not odd.count(0) else None
