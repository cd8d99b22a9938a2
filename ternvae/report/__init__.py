"""The report of a run: one page of HTML that needs nothing but a browser."""

from ternvae.report.facts import ReportError, RunFacts, facts_of
from ternvae.report.page import report_html, write_report

__all__ = ["ReportError", "RunFacts", "facts_of", "report_html", "write_report"]
