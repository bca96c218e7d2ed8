"""errors → tables, figures, report."""
