"""Makes text that a model wrote safe to display."""


def plain(text: str) -> str:
    """Return the text with control and direction characters escaped, so that what is shown is what runs."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)
