"""Tables of rows: the gradient of a look-up."""

from nmsim.kernels.jit import njit


@njit
def scatter(dy, tokens, dtable):
    """dtable[tokens[i]] += dy[i] for every row i, in order."""
    for i in range(tokens.size):
        for j in range(dy.shape[1]):
            dtable[tokens[i], j] += dy[i, j]
