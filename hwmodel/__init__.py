"""Sizes and prices of N:M sparse workloads: patterns, operations, footprints, devices, costs. Never weights."""
