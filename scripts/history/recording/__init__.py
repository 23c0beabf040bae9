"""Clients that drive a local network and write down what they asked and what they were told."""
