"""Clients that ask and give up as real container runtimes do, measured with the real ones."""
