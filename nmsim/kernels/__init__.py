"""Every compiled function of the project: arrays in, arrays out; no validation and no classes here."""
