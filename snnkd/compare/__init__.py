"""Comparing finished runs: what may share a table, mean and spread over seeds, paired differences, and the
table as text."""
