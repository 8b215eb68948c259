"""`vidgan explore`: the live page from a server, with what needs Python."""
