"""What a fault command can be refused for."""


class FaultError(Exception):
    """One line that says what was wrong and what to do."""
