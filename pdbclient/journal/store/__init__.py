"""Where the journal is: a file or a database, its tables, and what is in them as bytes."""
