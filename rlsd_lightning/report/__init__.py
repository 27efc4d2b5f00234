"""One self-contained HTML page about a run: what was learnt, how it went, what the policy wrote."""

from rlsd_lightning.report.build import write_report

__all__ = ["write_report"]
