"""Whether a config gives the same numbers on every topology: the ladder that `distkeras verify` climbs."""
