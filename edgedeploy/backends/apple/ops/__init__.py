"""Translations, one file per family of operators; the registry loads every module in here."""
