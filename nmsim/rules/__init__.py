"""The small frozen rules that recipes are made of, one file for each axis."""
