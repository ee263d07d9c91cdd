"""What the journal knows, as SQL: entries, what is pending, what servers have, retention. One transaction each."""
