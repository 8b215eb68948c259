"""One function per verb: it turns words and flags into a library call and prints the result.

Nothing heavy is imported before a verb is called, so that `vidgan --help` answers at once.
"""
