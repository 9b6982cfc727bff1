"""Child program: trains, aggregates and evaluates one job. `python -m node.compute`, see `__main__`."""
