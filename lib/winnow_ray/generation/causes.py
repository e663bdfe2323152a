"""What went wrong, in one bounded line of somebody else's error."""

from winnow.llm.engines.openai_json import one_line


def cause_of(error: BaseException) -> str:
    """The last line of an error's text, where a traceback names its cause.

    Example:
        >>> cause_of(RuntimeError("Traceback ...\\n  File ...\\nValueError: no room"))
        'ValueError: no room'
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else type(error).__name__
