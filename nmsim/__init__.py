"""Reference simulator of N:M structured-sparse training: masks, recipes, kernels and models with explicit gradients."""
