"""What a session found, and its JSON: turned into it and back here alone."""
