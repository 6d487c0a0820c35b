"""BLEU (Papineni et al. 2002) and chrF (Popovic 2015) of a corpus, from their definitions; scores out of 100.

Words are what stands between spaces, and BLEU is not smoothed, so that some n-gram of every length has to match.
"""

from __future__ import annotations

import math
from collections import Counter


def ngrams(items, n):
    return Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1))


def bleu(said, meant):
    logs = 0.0
    for n in range(1, 5):
        matches = total = 0
        for a, b in zip(said, meant, strict=True):
            found, wanted = ngrams(a.split(), n), ngrams(b.split(), n)
            matches += sum((found & wanted).values())
            total += sum(found.values())
        logs += math.log(matches / total) / 4
    lengths = [sum(len(text.split()) for text in texts) for texts in (said, meant)]
    brevity = min(0.0, 1 - lengths[1] / lengths[0])
    return 100 * math.exp(logs + brevity)


def chrf(said, meant, order=6, beta=2):
    precisions, recalls = [], []
    for n in range(1, order + 1):
        matches = found_count = wanted_count = 0
        for a, b in zip(said, meant, strict=True):
            found, wanted = (ngrams("".join(text.split()), n) for text in (a, b))
            matches += sum((found & wanted).values())
            found_count += sum(found.values())
            wanted_count += sum(wanted.values())
        precisions.append(matches / found_count)
        recalls.append(matches / wanted_count)
    p, r = sum(precisions) / order, sum(recalls) / order
    return 100 * (1 + beta**2) * p * r / (beta**2 * p + r)
