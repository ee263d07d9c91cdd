"""One pass, a comparison, a seeding."""
