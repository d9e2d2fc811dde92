"""Words of a line and quoted text, by the rules of redis-cli (sds.c: sdssplitargs, sdscatrepr)."""

from __future__ import annotations

SPACE = b" \t\n\v\f\r"
ENDS = b" \t\n\r\0"
"""What ends a word outside of quotes."""

UNESCAPED = {ord("n"): b"\n", ord("r"): b"\r", ord("t"): b"\t", ord("b"): b"\b", ord("a"): b"\a"}
ESCAPED = {ord("\\"): b"\\\\", ord('"'): b'\\"'} | {text[0]: b"\\" + bytes([name]) for name, text in UNESCAPED.items()}
HEX = b"0123456789abcdefABCDEF"

QUOTED = [
    ESCAPED.get(byte, bytes([byte]) if 0x20 <= byte < 0x7F else b"\\x%02x" % byte) for byte in range(256)
]  # fmt: skip
"""How each byte is written between double quotes."""


def quoted(text: bytes) -> bytes:
    return b'"' + b"".join(QUOTED[byte] for byte in text) + b'"'


def unquoted(text: bytes) -> bytes | None:
    """The one word that `text` is, or None."""
    words = split(text)
    return words[0] if words is not None and len(words) == 1 else None


def split(line: bytes) -> list[bytes] | None:
    """The words of a line, or None if a quote isn't closed, or closed in the middle of a word."""
    words: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at] in SPACE:
            at += 1
        if at == len(line) or line[at] == 0:
            return words
        found = _word(line, at)
        if found is None:
            return None
        word, at = found
        words.append(word)


def _word(line: bytes, at: int) -> tuple[bytes, int] | None:
    """The word that begins at `at`, and where it ends. Quotes may open in the middle of it."""
    word = bytearray()
    while at < len(line) and line[at] not in ENDS:
        if line[at] not in b"\"'":
            word.append(line[at])
            at += 1
            continue
        found = _between_quotes(line, at)
        if found is None:
            return None
        text, at = found
        word += text
        if at < len(line) and line[at] not in SPACE:
            return None
        return bytes(word), at
    return bytes(word), at


def _between_quotes(line: bytes, at: int) -> tuple[bytes, int] | None:
    """What stands in the quotes that open at `at`, and where to go on behind them."""
    quote, at = line[at], at + 1
    text = bytearray()
    while at < len(line) and line[at] != 0:
        byte, following = line[at], line[at + 1 : at + 4]
        if byte == quote:
            return bytes(text), at + 1
        if byte == ord("\\") and quote == ord('"') and following:
            if following[:1] == b"x" and len(following) == 3 and following[1] in HEX and following[2] in HEX:
                text.append(int(following[1:], 16))
                at += 4
            else:
                text += UNESCAPED.get(following[0], following[:1])
                at += 2
        elif byte == ord("\\") and following[:1] == b"'":
            text += b"'"
            at += 2
        else:
            text.append(byte)
            at += 1
    return None
