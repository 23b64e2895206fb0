"""Speed and memory claims, each measured side by side in one run."""
