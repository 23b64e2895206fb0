"""Numbers in messages."""


def counted(number: int, noun: str) -> str:
    """`1 video` or `2 videos`. noun: one whose plural ends in s, or in es after an s (class, process)."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"
