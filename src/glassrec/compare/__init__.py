"""Finished runs side by side: in the terminal, as tables, and as one page that needs no server."""
