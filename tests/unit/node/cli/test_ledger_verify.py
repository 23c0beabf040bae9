"""`cgpbft ledger verify` hands its argument to the auditor's command line."""

from pathlib import Path

from typer.testing import CliRunner

from node.cli.application import app


def test_a_source_that_is_none_is_told_by_the_auditor(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["ledger", "verify", str(tmp_path / "nothing")])
    assert result.exit_code == 2
    assert result.stderr.startswith("cgpbft ledger verify: ")
    assert "nothing" in result.stderr
