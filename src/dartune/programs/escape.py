"""Text that a model wrote, made safe for a person's eyes."""


def plain(text: str) -> str:
    """Text whose control and direction characters are spelled out, so that what is read is what runs."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)
