"""The six actors: decisions from `protocols`, the world through `ports`. See actors/README.md."""
