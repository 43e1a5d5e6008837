"""All pairs of values in few rows: greedy, deterministic, with combinations that make no sense left out."""

from itertools import combinations, product


def rows(dimensions, possible):
    """Every possible full combination."""
    names = list(dimensions)
    every = (dict(zip(names, values)) for values in product(*dimensions.values()))
    return [row for row in every if possible(row)]


def pairs_of(row):
    return {(a, row[a], b, row[b]) for a, b in combinations(row, 2)}


def pairwise(dimensions, possible):
    """Few rows that contain every pair of values that some possible row contains."""
    every = rows(dimensions, possible)
    missing = set().union(*(pairs_of(row) for row in every)) if every else set()
    chosen = []
    while missing:
        best = max(every, key=lambda row: len(pairs_of(row) & missing))
        chosen.append(best)
        missing -= pairs_of(best)
    return chosen
