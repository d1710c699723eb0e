"""Image sets by name: each module loads one or a family."""
