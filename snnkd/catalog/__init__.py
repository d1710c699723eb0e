"""Catalogs: which losses, networks, data sets, neurons and export formats exist; no torch here."""
