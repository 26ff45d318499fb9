"""What every other room stands on: errors, events, hashing, paths, units. No torch."""
