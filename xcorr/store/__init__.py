"""What a campaign has on disk: its folder, tables, ledger and lock, and the check that all files are whole."""
