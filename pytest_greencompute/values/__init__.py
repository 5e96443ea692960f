"""What data is: quantities, metrics, readings and runs, frozen and validated once. Pure."""
