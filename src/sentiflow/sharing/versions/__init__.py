"""The versions of the data: which there were, what differs between two of them, and how reviews are added."""
