"""What a daemon shows of itself: one document, and its form as a page and on a terminal. Pure."""
