"""What is on disk: the folder of a campaign, its tables and ledger, its lock, and whether all of it is whole."""
