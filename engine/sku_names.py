"""What a SKU and a display name may look like, and how a SKU is written in Redis and Postgres.

Callers use a SKU as people write it: `Red Shirt/XL`. Keys and packed lines (`sku=quantity sku=quantity`) hold its *stored
form*, in which the three characters that would end a word there are percent-encoded: `Red%20Shirt/XL`. A SKU without any of
them is its own stored form.
"""

from __future__ import annotations

import re
import unicodedata

MAX_SKU_LENGTH = 128
MAX_NAME_LENGTH = 255

RULE = (
    f"A SKU is 1 to {MAX_SKU_LENGTH} letters, marks, digits, punctuation characters, symbols and single inner spaces; "
    "it is not . or .."
)

ASCII = re.compile(r"[!-~]+(?: [!-~]+)*").fullmatch
"""SKUs of ASCII alone, which need no look at each character."""

STORED = str.maketrans({" ": "%20", "=": "%3D", "%": "%25"})

JOINERS = "\u200c\u200d"
"""Format characters that belong to words of some languages and to joined emoji."""

EMOJI_TAGS = range(0xE0020, 0xE0080)
"""Format characters of which the flags of regions are made."""


def is_sku(text: str) -> bool:
    """Whether it is a SKU, in NFC."""
    if not 1 <= len(text) <= MAX_SKU_LENGTH or text in (".", ".."):
        return False
    if text.isascii():
        return ASCII(text) is not None
    words = text.split(" ")
    return all(words) and unicodedata.is_normalized("NFC", text) and all(map(_is_visible, "".join(words)))


def sku_of(text: str) -> str:
    """The SKU that a caller means, in NFC.

    Raises:
        ValueError: it can't be one; the message is a sentence that says which characters can.
    """
    sku = text if text.isascii() else unicodedata.normalize("NFC", text)
    if not is_sku(sku):
        raise ValueError(RULE)
    return sku


def stored(sku: str) -> str:
    """A SKU as keys and packed lines have it."""
    return sku.translate(STORED)


def shown(stored_form: str) -> str:
    """The SKU of a stored form."""
    if "%" not in stored_form:
        return stored_form
    return stored_form.replace("%20", " ").replace("%3D", "=").replace("%25", "%")


def name_problem(text: str) -> str | None:
    """What is wrong with a display name, as a sentence; None: nothing. Spaces of any kind and joined emoji are fine."""
    if not 1 <= len(text) <= MAX_NAME_LENGTH:
        return f"Length must be between 1 and {MAX_NAME_LENGTH}."
    if not text.isprintable() and not all(map(_may_be_in_name, text)):
        return "Has control characters, or others that can't be printed."
    return None


def _is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMNPS"


def _may_be_in_name(character: str) -> bool:
    return (
        _is_visible(character)
        or unicodedata.category(character) == "Zs"
        or character in JOINERS
        or ord(character) in EMOJI_TAGS
    )
