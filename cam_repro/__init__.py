"""Class activation maps (Zhou et al., CVPR 2016), reproduced: config → dataset → network → maps → boxes → errors."""


class UserError(Exception):
    """A mistake a person can mend; its text is one line: what was found, what was expected, what to type."""
