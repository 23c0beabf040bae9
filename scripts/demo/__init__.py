"""The demonstration: a local network and a day of households' trades through it."""
