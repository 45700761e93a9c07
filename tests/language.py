"""Phrases that plain English avoids, as regular expressions with advice: for the tests of help texts and documents.

``faults`` reports every phrase of a text that is in the list. It ignores code, which is what stands in backquotes.
"""

from __future__ import annotations

import re

_SENTENCE = r"(?:\A|(?<=[.!?:;]\s)|(?<=\n\n))[\"'(*]*"
"""Where a sentence begins."""

_NAME_THE_SUBJECT = "name the subject: the message, the step, the worker, the caller"
_FREE_CLAUSE = "name the thing instead of a relative clause without a noun"

_PATTERNS: tuple[tuple[str, str], ...] = (
    # --- rule 1: every sentence names its subject
    (_SENTENCE + r"What(?!'s| (?:is|are|was|were|does|do|did|has|have|if|can|will|should|happens|to)\b)", _FREE_CLAUSE),
    (_SENTENCE + r"What (?:is|are|was|were|has|have|can|does) (?=[^?]*?[.:;](?:\s|\Z))", _FREE_CLAUSE),
    (_SENTENCE + r"(?:Whatever|Whoever|Whichever|Those (?:that|who|which)|They who|That which)\b", _NAME_THE_SUBJECT),
    (r"\bonly those\b", "say what they are: only workflows with this status"),
    (r"\b(?:whatever|whoever)\b(?! (?:reason|happens|the)\b)", _FREE_CLAUSE),
    (r"\bthose that (?:are|were|stand|wait|have|had|come|go|take)\b", "name the thing: workflows that are over"),
    (
        r"\b(?:of|for|to|with|from|by|about|list|lists|show|shows) what (?:waits?|stands?|runs|came|comes|goes|has)\b",
        _FREE_CLAUSE,
    ),
    (
        r"\bwhat (?:waits|waited|stands|stood|has come|it waits for has|is meant|was said|is said|is told)\b",
        _FREE_CLAUSE,
    ),
    (r"\bthat stand\b(?! (?:for|by)\b)", "have this status"),
    (r"\bas it stands\b", "as it is, unchanged, or its status"),
    (r"\bhow (?:it|they|he|she) (?:stands?|must have|is meant)\b", "name the status"),
    # --- rule 3: the field's verbs
    (r"\b(?:begin|begins|began|begun|beginning) anew\b", "restart, or start from scratch"),
    (r"\b(?:come|comes|came|coming) again\b", "is delivered again, is published again, returns"),
    (r"\b(?:go|goes|going|went|gone) on\b(?! (?:to the|strike|holiday|call|top|and off)\b)", "continue, resume, run"),
    (r"\b(?:stand|stands|stood|standing) (?:for|in for)\b", "mean, represent, replace"),
    (
        r"\b(?:take|takes|took|taken|taking) (?:(?:it|them|this|that|what|everything|something|all|its step|a step)\b"
        r"[^.,;]{0,30}?\b)?back\b",
        "compensate, undo, return to the queue",
    ),
    (
        r"\b(?:is|are|was|were|be|been|being) (?:said|told)\b(?! apart)",
        "name who reports it; or: is set, is given, is notified",
    ),
    (r"\b(?:can|may|must|could) be said\b", "repeatable, can be given"),
    (r"\bsaid (?:again|so|nothing|on the command line)\b", "given, set, reported"),
    (r"\btold to stop\b", "receives a signal to stop, or is stopped"),
    (r"\b(?:is|are|was|were|be|been) meant\b", "match, select, name"),
    (r"\bhands? (?:it |them |everything |the rest |all )?back\b", "release, return to the queue"),
    (r"\b(?:stand|stands|stood) (?:so|there|here|ready)\b", "have this status; wait; is there"),
    (r"\b(?:its|the|their) time (?:has|had) come\b", "is due, the timer fires"),
    (r"\b(?:send|sends|sent|sending) (?:it |them )?on its way\b", "dispatch"),
    (r"\balready on (?:its|their) way\b", "dispatched, under way"),
    (r"\bof its own account\b", "by itself"),
    (r"\b(?:know|knows|knew) nothing of\b", "does not know"),
    (r"\bcomes? true\b", "is met"),
    (r"\bcomes? to (?:an end|its end|rest)\b", "ends"),
    (r"\bthe whole of\b", "all of, the full"),
    (r"\b(?:has|have|had) (?:it|them) no more\b", "no longer has"),
    (r"\b(?:there is|are|is|has|have) (?:\w+ ){0,4}no more\b(?! than\b)", "no longer"),
    (r"\bleast level\b", "minimum level"),
    (r"\bis sought\b|\bare sought\b", "paigeant looks for, searches"),
    (r"\b(?:tried|try) again that\b", "name the steps first: the steps that failed are retried"),
    (r"\bwanted\b(?= *[.;:]?\Z)", "optionally"),
    (r"\bin force\b", "effective, in effect, current"),
    (
        r"\bbear(?:s|ing)? in itself\b|\bherewith\b|\bthereof\b|\bthereby\b|\bwherein\b|\bwhereof\b|\blest\b",
        "use an everyday word",
    ),
    (r"\bneither by \S+ nor by \S+ nor\b", "list the places"),
    # --- found in the documents
    (r"\b(?:hear|hears|heard) (?:of|how|what|that|from)\b", "learns, receives, is notified"),
    (r"\b(?:hand|hands|handed|handing) (?:it |them |everything )?on\b", "pass on, publish"),
    (r"\b(?:give|gives|gave|given|giving) (?:it |them |everything )?back\b", "release, return"),
    (r"\b(?:go|goes|went|going) by (?:the|its|their|it|them|what)\b", "follow, depend on"),
    (r"\b(?:write|writes|wrote|written|writing) (?:it |them |everything )?down\b", "record, store"),
    (r"\bno more(?=[.,;:])", "no longer, not any more"),
    (r"\b(?:heed|heeds|heeded|upon|whilst|thence|hitherto)\b", "use an everyday word"),
    (
        r"[,;] for (?:it|they|there|nobody|he|she) (?:is|are|was|were|has|have|may|can|does|runs?|needs?|will|could)\b",
        "because",
    ),
    (r"\bin the place of\b", "instead of"),
    (r"\bbear(?:s|ing)? (?:repetition|that|being|it)\b", "can safely run twice"),
    (r"\bthere and then\b", "at this step, immediately"),
    (r"\bset apart\b", "reserved"),
    (r"\bput to the proof\b", "tested, measured"),
    (r"\bso many (?:at a time|in a|seconds|steps)\b", "name the number"),
    (r"\bwithout a word\b|\btells? nobody\b", "silently"),
    (r"\bunharmed\b", "unchanged"),
)

BANNED: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern if pattern.startswith(_SENTENCE) else f"(?i:{pattern})"), advice)
    for pattern, advice in _PATTERNS
]
"""Each phrase with what to write instead."""

_CODE = re.compile(r"```.*?```|``[^`]+``|`[^`\n]+`", re.DOTALL)
_NEAR = 200


def faults(text: str) -> list[str]:
    """Every banned phrase of this text, with its line number and the advice.

    Where the text speaks of compensation, "take back" is allowed: the glossary defines it.
    """
    prose = re.sub(r"(?<!\n)\n(?!\n)", " ", _CODE.sub(_blanked, text))
    found = [(match, advice) for pattern, advice in BANNED for match in pattern.finditer(prose)]
    return [
        f"line {text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}: {advice}"
        for match, advice in sorted(found, key=lambda one: one[0].start())
        if not (match[0].endswith("back") and "compensat" in _around(text, match))
    ]


def _blanked(code: re.Match[str]) -> str:
    """Code as letters that mean nothing: every character stays at its place."""
    return re.sub(r"[^\n`]", "x", code[0])


def _around(text: str, match: re.Match[str]) -> str:
    return text[max(match.start() - _NEAR, 0) : match.end() + _NEAR].lower()
