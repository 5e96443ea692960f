"""What a session found, and its JSON: how it is turned into it and back (``store.reports`` checks what a file holds)."""
