"""How far scores can be trusted: fitted on validation records, reported."""
