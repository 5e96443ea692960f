"""From options and files to one frozen value, with every problem in one error."""
