"""The commands of `cenote`, one module for each theme. A command imports what it needs when it runs: the tool must start fast."""
