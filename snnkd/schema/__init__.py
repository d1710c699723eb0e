"""Schema: which keys a recipe has, with types, ranges, defaults and help; no torch here."""
