"""The training kernels written from their definitions, one value after the other, in float64."""

from __future__ import annotations

import math

import numpy as np


def gelu(x):
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + math.tanh(u))


def layer_norm(x, gain, shift, eps=1e-5):
    out = np.empty(x.shape)
    for i, row in enumerate(x.astype(float)):
        mean = sum(row) / len(row)
        variance = sum((value - mean) ** 2 for value in row) / len(row)
        out[i] = (row - mean) / math.sqrt(variance + eps) * gain + shift
    return out


def softmax(row):
    weights = [math.exp(value - max(row)) for value in row]
    return np.array(weights) / sum(weights)


def attention(q, k, v, limits, *, causal):
    """q, k, v [batch, heads, tokens, d_head] -> [batch * tokens, heads * d_head]."""
    batch, heads, queries, width = q.shape
    out = np.zeros((batch, queries, heads, width))
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                seen = min(limits[b], i + 1) if causal else limits[b]
                scores = [float(np.dot(q[b, h, i], k[b, h, j])) / math.sqrt(width) for j in range(seen)]
                for share, value in zip(softmax(scores), v[b, h], strict=False):
                    out[b, i, h] += share * value
    return out.reshape(batch * queries, heads * width)


def cross_entropy(logits, labels, others, share, smoothing):
    """The sum over rows."""
    total = 0.0
    for row, label, other in zip(logits.astype(float), labels, others, strict=True):
        if label >= 0:
            target = np.full(len(row), smoothing / len(row))
            target[label] += (1 - smoothing) * share
            target[other] += (1 - smoothing) * (1 - share)
            total -= sum(t * math.log(p) for t, p in zip(target, softmax(row), strict=True))
    return total


def adamw(value, grads, *, lr, beta1, beta2, eps, decay):
    """The value after one step for each of `grads`."""
    mean, square = np.zeros(value.shape), np.zeros(value.shape)
    for step, grad in enumerate(grads, start=1):
        mean = beta1 * mean + (1 - beta1) * grad
        square = beta2 * square + (1 - beta2) * grad**2
        value = value - lr * decay * value
        value = value - lr * (mean / (1 - beta1**step)) / (np.sqrt(square / (1 - beta2**step)) + eps)
    return value
