"""How models and queries of each library are called, and what is known of their answers."""
