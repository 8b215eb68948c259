"""One function a verb: it turns words and flags into a call of the library and prints the result.

Nothing heavy is imported before a verb is called, so that `vidgan --help` answers at once.
"""
