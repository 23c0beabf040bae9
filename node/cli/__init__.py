"""The command line `cgpbft`. Heavy modules are imported inside the commands, so that `--help` starts at once."""


def main() -> None:
    """Entry point: exit code 0 done, 1 refused or failed (one line on stderr), 2 wrong usage."""
    from node.cli.application import app

    app()
