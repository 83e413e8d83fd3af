"""Programs as text and as data: extraction, canonical form, features, verdicts. May import errors."""
