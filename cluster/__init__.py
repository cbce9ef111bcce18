"""Many machines: who is there, who holds what, and moving one blob from many sources."""
