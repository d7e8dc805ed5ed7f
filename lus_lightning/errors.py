"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the user can mend: the message is a sentence that says what is wrong, shows it, and what to do.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """
