"""Comparison of finished runs: tables, spread over seeds, paired differences, output formats."""
