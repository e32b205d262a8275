"""Text that somebody else typed: bill references, names, remarks, result descriptions."""

import unicodedata

MAX_FOREIGN_TEXT = 200
# Cc control, Cf format (zero width, bidi, tag characters), Co private use, Cs surrogates, Zl/Zp line separators.
_DROPPED = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Cn"}
_VARIATION_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0), range(0x180B, 0x1810))
# Letters and marks that show nothing: grapheme joiner, Hangul and Khmer fillers, the empty Braille cell.
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def clean_foreign_text(text: str | None, *, limit: int = MAX_FOREIGN_TEXT) -> str | None:
    """Text fit for a field named `untrusted_text`: invisible characters gone, one line, at most `limit` characters.

    Cleaning does not make the text true or harmless; the field's name says so to the reader.
    """
    if not text:
        return None
    visible = "".join(
        " " if unicodedata.category(ch) in {"Cc", "Zl", "Zp"} else ch
        for ch in text[: limit * 4]
        if not _is_invisible(ch)
    )
    return " ".join(visible.split())[:limit] or None


def _is_invisible(ch: str) -> bool:
    if unicodedata.category(ch) in {"Cc", "Zl", "Zp"}:
        return False  # becomes a space above, so that words do not run together
    if ch in _BLANKS or unicodedata.category(ch) in _DROPPED:
        return True
    return any(ord(ch) in span for span in _VARIATION_SELECTORS)
